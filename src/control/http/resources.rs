//! Objects: read and followed, the same way for every kind.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::ETAG;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use tokio::sync::watch;

use crate::api::endpoint::Right;
use crate::api::wire::{ChangeKind, ResourceEvent, ResourceList};
use crate::control::http::access::Caller;
use crate::control::http::answer::Refused;
use crate::control::http::stream::{self, Gate, Source};
use crate::control::plane::Plane;
use crate::logic::state::{State as Machine, Written};
use crate::logic::status::Fates;
use crate::model::name::ServiceName;
use crate::model::resource::{Key, Kind, Resource, Revision};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ListQuery {
    namespace: Option<String>,
    watch: bool,
    since: Option<Revision>,
}

pub(crate) async fn list(
    State(plane): State<Arc<Plane>>,
    Extension(caller): Extension<Caller>,
    Path(plural): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Response, Refused> {
    let kind = kind(&plural)?;
    if query.watch {
        let follow = Follow::new(&plane, kind, query)?;
        return Ok(stream::answer(follow, Gate::new(&plane, caller, Right::Reader)));
    }
    let state = plane.store.state();
    let fates = Fated::new(&plane, &state, kind);
    let fates = fates.look();
    let items = select(&state, kind, query.namespace.as_deref());
    let items = items.map(|item| shown(item, (&plane, fates.as_ref()))).collect();
    Ok(Json(ResourceList { revision: state.policy_revision(), items }).into_response())
}

/// What it takes to say how objects of one kind fare.
struct Fated<'a> {
    state: &'a Machine,
    announced: Option<Vec<ServiceName>>,
}

impl<'a> Fated<'a> {
    fn new(plane: &Plane, state: &'a Machine, kind: Kind) -> Self {
        let announced = kind.is_route().then(|| plane.catalog.borrow().by_service().into_keys().collect());
        Self { state, announced }
    }

    /// Returns how they fare; `None` when that is not said of their kind.
    fn look(&self) -> Option<Fates<'a>> {
        let announced = self.announced.clone()?;
        Some(Fates::new(self.state.resources().values().map(AsRef::as_ref), announced))
    }
}

/// Returns an object as it is shown: with how it fares.
fn shown(object: &Arc<Resource>, (plane, fates): (&Arc<Plane>, Option<&Fates<'_>>)) -> Resource {
    let mut object = object.as_ref().clone();
    let status = fates.and_then(|fates| fates.of(&object)).map(|mut status| {
        plane.transitions.stamp(&object, &mut status);
        status
    });
    object.set_status(status);
    object
}

fn select<'a>(
    state: &'a Machine,
    kind: Kind,
    namespace: Option<&'a str>,
) -> impl Iterator<Item = &'a Arc<Resource>> {
    let of_kind = state.resources().iter().filter(move |(key, _)| key.kind == kind);
    of_kind.filter(move |(key, _)| namespace.is_none_or(|name| key.namespace == name)).map(|(_, item)| item)
}

pub(crate) async fn read(
    State(plane): State<Arc<Plane>>,
    Path((plural, namespace, name)): Path<(String, String, String)>,
) -> Result<Response, Refused> {
    let key = Key { kind: kind(&plural)?, namespace, name };
    let state = plane.store.state();
    let object = state.resources().get(&key).ok_or_else(|| no_object(&key))?;
    let version = object.metadata().resource_version.clone().unwrap_or_default();
    let fates = Fated::new(&plane, &state, key.kind);
    let object = shown(object, (&plane, fates.look().as_ref()));
    Ok(([(ETAG, format!("\"{version}\""))], Json(object)).into_response())
}

pub(crate) fn kind(plural: &str) -> Result<Kind, Refused> {
    let known = Kind::ALL.iter().copied().find(|kind| kind.plural() == plural);
    known.ok_or_else(|| {
        let kinds: Vec<_> = Kind::ALL.iter().map(|kind| kind.plural()).collect();
        let detail = format!("there is no kind '{plural}': expected one of {}", kinds.join(", "));
        Refused::new(StatusCode::NOT_FOUND, detail)
    })
}

pub(crate) fn no_object(key: &Key) -> Refused {
    Refused::new(StatusCode::NOT_FOUND, format!("there is no {key}"))
}

pub(crate) fn version(object: &Resource) -> Revision {
    object.metadata().resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or_default()
}

pub(crate) fn change_kind(written: Written) -> ChangeKind {
    match written {
        Written::Created => ChangeKind::Created,
        Written::Updated => ChangeKind::Updated,
        Written::Deleted => ChangeKind::Deleted,
    }
}

/// The changes of objects of one kind.
struct Follow {
    plane: Arc<Plane>,
    states: watch::Receiver<Arc<Machine>>,
    kind: Kind,
    namespace: Option<String>,
    /// Changes up to this revision were sent.
    sent: Revision,
    /// What there was at the beginning.
    first: Vec<ResourceEvent>,
}

impl Follow {
    /// Without `since`, begins with every object there is, as created.
    fn new(plane: &Arc<Plane>, kind: Kind, query: ListQuery) -> Result<Self, Refused> {
        let states = plane.store.watch();
        let state = plane.store.state();
        let (sent, first) = match query.since {
            Some(since) if plane.store.changes_since(since).is_some() => (since, Vec::new()),
            Some(since) => {
                let detail =
                    format!("the changes since revision {since} are no longer kept: list, then watch");
                return Err(Refused::new(StatusCode::GONE, detail));
            }
            None => {
                let items = select(&state, kind, query.namespace.as_deref());
                let fates = Fated::new(plane, &state, kind);
                let fates = fates.look();
                let created = |item: &Arc<Resource>| ResourceEvent {
                    revision: version(item),
                    change: ChangeKind::Created,
                    object: shown(item, (plane, fates.as_ref())),
                };
                (state.policy_revision(), items.map(created).collect())
            }
        };
        Ok(Self { plane: Arc::clone(plane), states, kind, namespace: query.namespace, sent, first })
    }

    /// Returns what has happened since it was last asked; `None` when the reader was too slow to be told all of it: it
    /// resumes with `since`, and hears then that it must list again.
    fn take(&mut self) -> Option<Vec<ResourceEvent>> {
        let changes = self.plane.store.changes_since(self.sent)?;
        let mut events = std::mem::take(&mut self.first);
        let state = self.plane.store.state();
        let fated = Fated::new(&self.plane, &state, self.kind);
        let fates = if changes.is_empty() { None } else { fated.look() };
        for change in changes {
            self.sent = self.sent.max(change.revision);
            let key = change.object.key();
            if key.kind == self.kind && self.namespace.as_ref().is_none_or(|name| *name == key.namespace) {
                let change_kind = change_kind(change.written);
                let object = shown(&change.object, (&self.plane, fates.as_ref()));
                events.push(ResourceEvent { revision: change.revision, change: change_kind, object });
            }
        }
        Some(events)
    }
}

impl Source for Follow {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.states.mark_unchanged();
            let events = self.take()?;
            if !events.is_empty() {
                let mut lines = Vec::new();
                for event in &events {
                    serde_json::to_writer(&mut lines, event).ok()?;
                    lines.push(b'\n');
                }
                return Some(lines.into());
            }
            self.states.changed().await.ok()?;
        }
    }
}
