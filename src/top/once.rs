//! One look at the mesh, for scripts and pipes.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};

use crate::model::view::MeshView;
use crate::top::canvas::Scene;
use crate::top::event::Event;
use crate::top::export;
use crate::top::feed;
use crate::top::start::{Error, OFFSCREEN, Options, begin};
use crate::top::terminal::offscreen;
use crate::top::update;
use crate::top::view;

/// What is printed once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Print {
    /// The lines of the view: titles first.
    Table,
    /// The lines of the view, or the whole mesh when no view was asked for.
    Json,
    /// The frame as an image.
    Svg,
}

/// What came out of printing once.
#[derive(Debug, Clone, PartialEq)]
pub enum Printed {
    /// Rows of text, the titles first.
    Table(Vec<Vec<String>>),
    /// A JSON value.
    Json(serde_json::Value),
    /// An SVG image.
    Svg(String),
}

/// Returns the first view of the mesh in the wanted form. Waits for it for at most `patience`.
///
/// # Errors
/// When the options name what does not exist, or no data came.
pub async fn once<F, S, E>(
    options: Options,
    connect: F,
    print: Print,
    patience: Duration,
) -> Result<Printed, Error>
where
    F: Future<Output = Result<S, E>>,
    S: Stream<Item = Result<MeshView, E>>,
    E: std::fmt::Display,
{
    let mut state = begin(&options, OFFSCREEN)?;
    let none = |reason: String| Error::NoData { origin: options.origin.clone(), reason };
    let first = async {
        let views = connect.await.map_err(|error| error.to_string())?;
        tokio::pin!(views);
        match views.next().await {
            Some(view) => view.map_err(|error| error.to_string()),
            None => Err(feed::Error::Ended.to_string()),
        }
    };
    let view = tokio::time::timeout(patience, first)
        .await
        .map_err(|_| none(feed::Error::Silent(patience).to_string()))?
        .map_err(none)?;
    update::update(&mut state, 0, Event::View(Arc::new(view)));
    let Some(scene) = Scene::of(&state) else { return Err(none("it was empty".to_owned())) };
    let shown = view::at(&state.place);
    Ok(match print {
        Print::Table => Printed::Table(shown.table(&scene)),
        Print::Json if options.view.is_some() || options.filter.is_some() => {
            Printed::Json(shown.records(&scene))
        }
        Print::Json => Printed::Json(serde_json::json!(scene.mesh)),
        Print::Svg => {
            let (columns, rows) = OFFSCREEN;
            Printed::Svg(export::svg(&offscreen(&state, columns, rows), state.theme))
        }
    })
}
