//! `mesh top`: the live console; on a pipe, and with `--once`, one look as a table, JSON or an image.

use std::future::Future;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use clap::{Args, ValueEnum};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};

use crate::api::client;
use crate::cli::connect::{self, ControlAddress};
use crate::cli::exit::{Exit, refuse};
use crate::cli::output;
use crate::model::view::MeshView;
use crate::net::clock;
use crate::top;
use crate::top::once::{Print, Printed, once};
use crate::top::start::{self, Options};
use crate::top::theme::{self, Depth, Theme};

/// How long one look may wait for data.
const PATIENCE: Duration = Duration::from_secs(10);

/// Flags of `mesh top`.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TopArgs {
    /// Ask one proxy instead of a control plane: the address of its admin API, such as 127.0.0.1:15000
    #[arg(long, value_name = "ADDR", conflicts_with = "control")]
    pub(crate) proxy: Option<String>,
    /// Print one look and end; so does a standard output that is no terminal
    #[arg(long)]
    pub(crate) once: bool,
    /// How to print one look [default: table]
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<TopFormat>,
    /// The view to begin with, or to print: overview, services, edges, nodes, identity, denials, events, …
    #[arg(long, value_name = "VIEW")]
    pub(crate) view: Option<String>,
    /// Only lines that pass: svc:pay* err%>1 p99>200ms is:failing -is:idle, or a word
    #[arg(long, value_name = "FILTER")]
    pub(crate) filter: Option<String>,
    /// Draw with ASCII only [default: when the locale is not UTF-8]
    #[arg(long)]
    pub(crate) ascii: bool,
    /// dark, light, high-contrast, okabe-ito or mono [default: by the terminal's background, as far as it tells]
    #[arg(long, value_name = "THEME", value_parser = theme_name)]
    pub(crate) theme: Option<&'static str>,
    /// Whether to use colour
    #[arg(long, value_enum, default_value_t)]
    pub(crate) color: When,
    /// Take the mouse: the wheel moves the cursor, a click goes to a tab
    #[arg(long)]
    pub(crate) mouse: bool,
}

/// How one look is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TopFormat {
    /// Aligned columns.
    Table,
    /// The lines of the view; the whole mesh when neither view nor filter is given.
    Json,
    /// The screen as an image.
    Svg,
}

/// Whether to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum When {
    /// Unless `NO_COLOR` is set or the terminal has none.
    #[default]
    Auto,
    /// Whatever the environment says.
    Always,
    /// Bold, dim and reverse only.
    Never,
}

fn theme_name(text: &str) -> Result<&'static str, String> {
    let known = || theme::names().collect::<Vec<_>>().join(", ");
    theme::names().find(|name| *name == text).ok_or_else(|| format!("the themes are {}", known()))
}

/// Where the data comes from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    /// In words.
    pub(crate) name: String,
    /// Where else a control plane was looked for.
    pub(crate) looked_in: Vec<String>,
}

/// Watches the mesh from a control plane, or from one proxy. A control plane on this host may start later.
///
/// # Errors
/// Those of the console, which gives the terminal back; those of standard output.
pub(crate) async fn run(args: TopArgs, address: ControlAddress) -> anyhow::Result<Exit> {
    if let Some(proxy) = args.proxy.clone() {
        let origin = Origin { name: format!("proxy {proxy}"), looked_in: Vec::new() };
        let views = move || {
            let proxy = proxy.clone();
            async move { worded(connect::proxy_views(proxy).await) }
        };
        watch(args, origin, views).await?;
        return Ok(Exit::Done);
    }
    let named = address.control.clone().filter(|control| !control.is_empty());
    let origin = match &named {
        Some(control) => {
            connect::client(&address).await?;
            Origin { name: control.clone(), looked_in: Vec::new() }
        }
        None => Origin {
            name: "this host".to_owned(),
            looked_in: vec!["--control (not given)".to_owned(), "$MESH_CONTROL (not set)".to_owned()],
        },
    };
    let views = move || {
        let address = address.clone();
        async move {
            let client = connect::client(&address).await.map_err(|error| output::words(&error))?;
            worded(connect::views(&client, true).await)
        }
    };
    watch(args, origin, views).await?;
    Ok(Exit::Done)
}

type Views<E> = BoxStream<'static, Result<MeshView, E>>;

/// Puts the errors of a stream into words for people who see where it comes from anyway.
fn worded(views: Result<Views<client::Error>, client::Error>) -> Result<Views<String>, String> {
    views
        .map(|views| views.map(|view| view.map_err(|error| words(&error))).boxed())
        .map_err(|error| words(&error))
}

fn words(error: &client::Error) -> String {
    let text = if let client::Error::Unreachable(text) = error { text.clone() } else { error.to_string() };
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Shows the streams that `connect` makes, until told to quit; or prints the first view of one.
///
/// # Errors
/// Those of the console, which gives the terminal back; those of standard output.
pub(crate) async fn watch<C, F, S, E>(args: TopArgs, origin: Origin, mut connect: C) -> anyhow::Result<()>
where
    C: FnMut() -> F + Send + 'static,
    F: Future<Output = Result<S, E>> + Send + 'static,
    S: Stream<Item = Result<MeshView, E>> + Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    let options = Options {
        origin: origin.name,
        looked_in: origin.looked_in,
        theme: theme_of(&args),
        follows_background: args.theme.is_none() && variable("TERM").is_none_or(|term| term != "linux"),
        utc_offset_s: utc_offset_s(),
        view: args.view.clone(),
        filter: args.filter.clone(),
        mouse: args.mouse,
    };
    let dumb = variable("TERM").is_none_or(|term| term == "dumb");
    if !args.once && args.output.is_none() && io::stdout().is_terminal() && !dumb {
        return Ok(top::run(options, connect).await?);
    }
    let print = match args.output {
        None | Some(TopFormat::Table) => Print::Table,
        Some(TopFormat::Json) => Print::Json,
        Some(TopFormat::Svg) => Print::Svg,
    };
    let printed = once(options, connect(), print, PATIENCE).await.map_err(|error| {
        let exit = match error {
            start::Error::View(_) | start::Error::Filter(_) => Exit::Usage,
            start::Error::NoData { .. } => Exit::Unreachable,
            start::Error::Terminal(_) => Exit::Refused,
        };
        refuse(exit, error.to_string())
    })?;
    match printed {
        Printed::Json(value) => output::json(&value)?,
        Printed::Svg(image) => output::write(&image)?,
        Printed::Table(rows) if rows.len() <= 1 => output::note("nothing to show in this view"),
        Printed::Table(rows) => output::write(&aligned(&rows, output::width()))?,
    }
    Ok(())
}

/// Returns rows as aligned columns, cut to `width` when there is one.
fn aligned(rows: &[Vec<String>], width: Option<usize>) -> String {
    let length = |text: &String| text.chars().count();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(length).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let shown: String = cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let padding = width.saturating_sub(shown.chars().count()) + 3;
            line.push_str(&shown);
            line.extend(std::iter::repeat_n(' ', padding));
        }
        let line: String = line.trim_end().chars().take(width.unwrap_or(usize::MAX)).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

// --- what the terminal can ------------------------------------------------------------------------------------------

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn theme_of(args: &TopArgs) -> Theme {
    let depth = match args.color {
        When::Never => Depth::Mono,
        When::Always => depth_of_terminal().max(Depth::Sixteen),
        When::Auto if variable("NO_COLOR").is_some() => Depth::Mono,
        When::Auto => depth_of_terminal(),
    };
    let ascii = args.ascii || !is_utf8();
    let name = args.theme.unwrap_or_else(|| if is_light() { "light" } else { "dark" });
    Theme::named(name, depth, ascii)
        .or_else(|| Theme::named("dark", depth, ascii))
        .expect("there is a theme called dark")
}

fn depth_of_terminal() -> Depth {
    let term = variable("TERM").unwrap_or_default();
    match variable("COLORTERM").as_deref() {
        Some("truecolor" | "24bit") => Depth::True,
        _ if term == "dumb" => Depth::Mono,
        _ if term.contains("direct") => Depth::True,
        _ if term.contains("256") => Depth::Indexed,
        _ => Depth::Sixteen,
    }
}

/// Returns whether the locale speaks UTF-8: the first of `LC_ALL`, `LC_CTYPE`, `LANG` that is set decides.
fn is_utf8() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(variable).unwrap_or_default();
    let locale = locale.to_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

/// Returns whether the terminal says, by `COLORFGBG`, that its background is light.
fn is_light() -> bool {
    let said = variable("COLORFGBG").unwrap_or_default();
    matches!(said.rsplit(';').next(), Some("7" | "15"))
}

/// Returns how far the local time of day is from UTC.
fn utc_offset_s() -> i32 {
    let now = i64::try_from(clock::wall_ms()).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    now.map_or(0, |now| jiff::tz::TimeZone::system().to_offset(now).seconds())
}
