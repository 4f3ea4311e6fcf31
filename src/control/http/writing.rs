//! Objects written, removed and taken back: checked among all others first, then all of it or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, Query, State};
use axum::http::header::{IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;

use crate::api::wire::{
    Applied, ApplyRequest, ApplyResult, ChangeKind, Defaults, History, Plan, WriteResult,
};
use crate::control::http::access::Caller;
use crate::control::http::answer::{Read, Refused, field_problem};
use crate::control::http::resources::{change_kind, kind, no_object, version};
use crate::control::plane::Plane;
use crate::logic::defaults;
use crate::logic::plan::plan as traffic_plan;
use crate::logic::state::{Change, Command, Event, Expected, State as Machine, Write};
use crate::logic::validate;
use crate::logic::validate::problem::Problem;
use crate::model::resource::{Key, Resource, Revision};
use crate::net::clock;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct WriteQuery {
    dry_run: bool,
    plan: bool,
    to: Option<Revision>,
}

type Place = Path<(String, String, String)>;

pub(crate) async fn write(
    State(plane): State<Arc<Plane>>,
    Extension(caller): Extension<Caller>,
    Path((plural, namespace, name)): Place,
    Query(query): Query<WriteQuery>,
    headers: HeaderMap,
    Read(mut resource): Read<Resource>,
) -> Result<Response, Refused> {
    let key = Key { kind: kind(&plural)?, namespace, name };
    if resource.key() != key {
        let detail = format!("the body is {}, the path says {key}", resource.key());
        return Err(Refused::new(StatusCode::BAD_REQUEST, detail));
    }
    let expected = match expected(&headers)? {
        Expected::Any => said_version(&resource)?,
        stated @ (Expected::Absent | Expected::Revision(_)) => stated,
    };
    defaults::fill(&mut resource);
    let write = Write::Put { resource: Box::new(resource), expected };
    one(&plane, &caller, write, query.dry_run).await
}

pub(crate) async fn remove(
    State(plane): State<Arc<Plane>>,
    Extension(caller): Extension<Caller>,
    Path((plural, namespace, name)): Place,
    Query(query): Query<WriteQuery>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let key = Key { kind: kind(&plural)?, namespace, name };
    let write = Write::Delete { key, expected: expected(&headers)? };
    one(&plane, &caller, write, query.dry_run).await
}

pub(crate) async fn apply(
    State(plane): State<Arc<Plane>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<WriteQuery>,
    Read(request): Read<ApplyRequest>,
) -> Result<Json<ApplyResult>, Refused> {
    let mut writes = Vec::new();
    for mut resource in request.objects {
        let expected = said_version(&resource)?;
        defaults::fill(&mut resource);
        writes.push(Write::Put { resource: Box::new(resource), expected });
    }
    let before = plane.store.state();
    if let Some(labels) = &request.prune {
        writes.extend(pruned(&before, labels, &writes)?);
    }
    let mut missing = Vec::new();
    for path in request.remove {
        let key: Key = path.parse().map_err(|error: String| Refused::new(StatusCode::BAD_REQUEST, error))?;
        match before.resources().get(&key) {
            _ if writes.iter().any(|write| write.key() == key) => {
                let detail = format!("{key} is to be written and removed, or removed twice");
                return Err(Refused::new(StatusCode::BAD_REQUEST, detail));
            }
            Some(_) => writes.push(Write::Delete { key, expected: Expected::Any }),
            None => missing.push(path),
        }
    }
    let keys: Vec<Key> = writes.iter().map(Write::key).collect();
    let problems = check(&plane, &before, &writes)?;
    let (events, state) = carry_out(&plane, &caller, Change::Apply(writes), query.dry_run).await?;
    let mut done: BTreeMap<Key, (ChangeKind, Resource)> = BTreeMap::new();
    for event in events {
        if let Event::Object { written, object } = event {
            done.insert(object.key(), (change_kind(written), object.as_ref().clone()));
        }
    }
    let mut changes = Vec::new();
    for key in keys {
        let stored = || state.resources().get(&key).map(|stored| stored.as_ref().clone());
        let found = done.remove(&key).or_else(|| Some((ChangeKind::Unchanged, stored()?)));
        let (change, object) = found.ok_or_else(|| no_object(&key))?;
        let was = before.resources().get(&key).filter(|_| query.dry_run);
        changes.push(Applied { change, object, before: was.map(|was| was.as_ref().clone()) });
    }
    let warnings = problems.iter().map(field_problem).collect();
    let plan = query.plan.then(|| plan(&plane, &before, &state));
    Ok(Json(ApplyResult { revision: state.policy_revision(), changes, missing, warnings, plan }))
}

/// Says what a change does to the traffic that was counted.
fn plan(plane: &Plane, before: &Machine, after: &Machine) -> Plan {
    let snapshots = (plane.publisher.preview(before), plane.publisher.preview(after));
    let hours = plane.collector.hours();
    let catalog = plane.catalog.borrow().clone();
    let changes = traffic_plan((&snapshots.0, &snapshots.1), &catalog, &plane.node, hours.traffic());
    Plan { since_ms: hours.since_ms(), changes }
}

pub(crate) async fn history(
    State(plane): State<Arc<Plane>>,
    Path((plural, namespace, name)): Place,
) -> Result<Json<History>, Refused> {
    let key = Key { kind: kind(&plural)?, namespace, name };
    let versions = plane.store.state().history(&key);
    if versions.is_empty() { Err(no_object(&key)) } else { Ok(Json(History { versions })) }
}

pub(crate) async fn rollback(
    State(plane): State<Arc<Plane>>,
    Extension(caller): Extension<Caller>,
    Path((plural, namespace, name)): Place,
    Query(query): Query<WriteQuery>,
) -> Result<Response, Refused> {
    let key = Key { kind: kind(&plural)?, namespace, name };
    let state = plane.store.state();
    let mut resource = state.earlier(&key, query.to)?.as_ref().clone();
    resource.metadata_mut().forget_history();
    let expected =
        state.resources().get(&key).map_or(Expected::Absent, |now| Expected::Revision(version(now)));
    let write = Write::Put { resource: Box::new(resource), expected };
    one(&plane, &caller, write, query.dry_run).await
}

pub(crate) async fn read_defaults(State(plane): State<Arc<Plane>>) -> Json<Defaults> {
    Json(stored_defaults(&plane.store.state()))
}

pub(crate) async fn set_defaults(
    State(plane): State<Arc<Plane>>,
    Extension(caller): Extension<Caller>,
    Read(Defaults { action, mode }): Read<Defaults>,
) -> Result<Json<Defaults>, Refused> {
    plane.submit_for(caller.name(), Change::SetDefaultAction(action)).await?;
    let committed = plane.submit_for(caller.name(), Change::SetMode(mode)).await?;
    Ok(Json(stored_defaults(&committed.state)))
}

fn stored_defaults(state: &Machine) -> Defaults {
    state
        .mesh()
        .map_or_else(Defaults::default, |mesh| Defaults { action: mesh.default_action, mode: mesh.mode })
}

/// Writes or removes one object.
async fn one(plane: &Plane, caller: &Caller, write: Write, dry_run: bool) -> Result<Response, Refused> {
    let key = write.key();
    let problems = check(plane, &plane.store.state(), std::slice::from_ref(&write))?;
    let warnings = problems.iter().map(ToString::to_string).collect();
    let change = match write {
        Write::Put { resource, expected } => Change::Put { resource, expected },
        Write::Delete { key, expected } => Change::Delete { key, expected },
    };
    let (events, state) = carry_out(plane, caller, change, dry_run).await?;
    let mut change = ChangeKind::Unchanged;
    let mut object = None;
    for event in events {
        if let Event::Object { written, object: written_object } = event {
            change = change_kind(written);
            object = Some(written_object);
        }
    }
    let stored = object.or_else(|| state.resources().get(&key).cloned()).ok_or_else(|| no_object(&key))?;
    let revision = match change {
        ChangeKind::Created | ChangeKind::Updated => version(&stored),
        ChangeKind::Unchanged | ChangeKind::Deleted => state.policy_revision(),
    };
    let status = if change == ChangeKind::Created { StatusCode::CREATED } else { StatusCode::OK };
    let result = WriteResult { revision, change, object: stored.as_ref().clone(), warnings };
    Ok((status, Json(result)).into_response())
}

/// Carries out a change, or with `dry_run` tries it on a copy; returns what it did, and the state after it.
async fn carry_out(
    plane: &Plane,
    caller: &Caller,
    change: Change,
    dry_run: bool,
) -> Result<(Vec<Event>, Arc<Machine>), Refused> {
    if dry_run {
        let mut state = plane.store.state().as_ref().clone();
        let events = state.apply(Command::new(clock::wall_ms(), change))?;
        return Ok((events, Arc::new(state)));
    }
    let committed = plane.submit_for(caller.name(), change).await?;
    Ok((committed.events, committed.state))
}

/// Returns the doubts about writes among all that is stored.
///
/// # Errors
/// What is wrong with them, field by field.
fn check(plane: &Plane, state: &Machine, writes: &[Write]) -> Result<Vec<Problem>, Refused> {
    let mut written = Vec::new();
    let mut removed = BTreeSet::new();
    for write in writes {
        match write {
            Write::Put { resource, .. } => written.push(resource.as_ref().clone()),
            Write::Delete { key, .. } => _ = removed.insert(key.clone()),
        }
    }
    let stored: Vec<_> = state.resources().values().map(|stored| stored.as_ref().clone()).collect();
    let known: BTreeSet<_> = plane.catalog.borrow().by_service().into_keys().collect();
    let problems = validate::change(&stored, &written, &removed, &known);
    if problems.iter().any(Problem::is_error) { Err(Refused::invalid(&problems)) } else { Ok(problems) }
}

/// Finds the stored objects that have all of `labels` and are not written: each is removed as it is now, or not at all.
fn pruned(
    state: &Machine,
    labels: &BTreeMap<String, String>,
    writes: &[Write],
) -> Result<Vec<Write>, Refused> {
    if labels.is_empty() {
        let detail = "'prune' needs at least one label: without any it would remove every other object";
        return Err(Refused::new(StatusCode::BAD_REQUEST, detail));
    }
    let kept: BTreeSet<Key> = writes.iter().map(Write::key).collect();
    let labelled = |object: &&Arc<Resource>| {
        let has = &object.metadata().labels;
        labels.iter().all(|(label, value)| has.get(label) == Some(value))
    };
    let old = state.resources().values().filter(labelled).filter(|object| !kept.contains(&object.key()));
    Ok(old
        .map(|object| Write::Delete { key: object.key(), expected: Expected::Revision(version(object)) })
        .collect())
}

/// Reads what an object says about the version that it is to be written over.
fn said_version(resource: &Resource) -> Result<Expected, Refused> {
    match resource.metadata().resource_version.as_deref() {
        None | Some("") => Ok(Expected::Any),
        Some(version) => parse_version(version).map(Expected::Revision),
    }
}

/// Reads the preconditions of RFC 9110 §13.1.
fn expected(headers: &HeaderMap) -> Result<Expected, Refused> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?").trim());
    match (text(IF_MATCH), text(IF_NONE_MATCH)) {
        (None, None) => Ok(Expected::Any),
        (Some(tag), None) => parse_version(tag.trim_matches('"')).map(Expected::Revision),
        (None, Some("*")) => Ok(Expected::Absent),
        (_, Some(_)) => {
            let detail = "If-None-Match may only be '*', and not beside If-Match";
            Err(Refused::new(StatusCode::BAD_REQUEST, detail))
        }
    }
}

fn parse_version(text: &str) -> Result<Revision, Refused> {
    let wrong =
        || Refused::new(StatusCode::BAD_REQUEST, format!("'{text}' is not a revision: expected a number"));
    text.parse().map_err(|_| wrong())
}
