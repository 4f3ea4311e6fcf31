//! `mesh events`: what happened lately, the newest last.

use clap::Args;
use futures_util::{Stream, StreamExt as _};

use crate::cli::output::{self, Cell, Format, Table, Tone};
use crate::model::view::{EventView, MeshView, Severity};
use crate::net::clock;

/// Flags of `mesh events`.
#[derive(Debug, Clone, Args)]
pub(crate) struct EventsArgs {
    /// Only events of this kind: member, apply, token, join, certificate, proxy, deny, audit, outlier or control
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
    /// Go on printing what happens
    #[arg(short, long)]
    pub(crate) watch: bool,
}

/// Prints the events of the first view, and with `--watch` those that follow, each once.
///
/// # Errors
/// Those of the stream and of standard output.
pub(crate) async fn run<E: Into<anyhow::Error>>(
    args: &EventsArgs,
    views: impl Stream<Item = Result<MeshView, E>>,
) -> anyhow::Result<()> {
    tokio::pin!(views);
    let mut shown: Option<Vec<EventView>> = None;
    while let Some(view) = views.next().await {
        let view = view.map_err(Into::into)?;
        let wanted = |event: &&EventView| args.kind.as_ref().is_none_or(|kind| *kind == event.kind);
        let events: Vec<EventView> = view.events.iter().filter(wanted).cloned().collect();
        match &shown {
            None if args.watch => follow(args.output, &events, view.at_ms, true)?,
            None => {
                return Ok(output::list(
                    args.output,
                    &events,
                    |wide| table(&events, view.at_ms, wide),
                    |event| event.subject.clone(),
                )?);
            }
            Some(before) => follow(args.output, &fresh(before, &events), view.at_ms, false)?,
        }
        shown = Some(events);
    }
    anyhow::ensure!(shown.is_some(), "the control plane ended the stream before it sent a view");
    Ok(())
}

/// Returns what `now` has beyond `before`: both are the last part of one growing list.
fn fresh(before: &[EventView], now: &[EventView]) -> Vec<EventView> {
    let overlap = (0..=before.len().min(now.len()))
        .rev()
        .find(|length| before.get(before.len() - length..) == now.get(..*length))
        .unwrap_or(0);
    now.get(overlap..).unwrap_or_default().to_vec()
}

/// Prints further events, with a head before the first of a table.
fn follow(format: Format, events: &[EventView], now_ms: u64, first: bool) -> anyhow::Result<()> {
    match format {
        Format::Json => events.iter().try_for_each(|event| {
            output::line(&serde_json::to_string(event)?)?;
            Ok(())
        }),
        Format::Yaml => {
            events.iter().try_for_each(|event| output::yaml(&[event]))?;
            Ok(())
        }
        Format::Name => {
            events.iter().try_for_each(|event| output::line(&event.subject))?;
            Ok(())
        }
        Format::Table | Format::Wide => {
            let colour = output::colour(&std::io::stdout());
            let text = table(events, now_ms, true).render(output::width(), colour);
            let lines = text.split_inclusive('\n').skip(usize::from(!first));
            Ok(output::write(&lines.collect::<String>())?)
        }
    }
}

/// The table tells how long ago; the wide one, and the one that is followed, when.
fn table(events: &[EventView], now_ms: u64, wide: bool) -> Table {
    let mut table =
        Table::new(&[if wide { "time" } else { "age" }, "severity", "kind", "subject", "message"]);
    for event in events {
        let (severity, tone) = match event.severity {
            Severity::Info => ("info", Tone::Plain),
            Severity::Warning => ("warning", Tone::Warning),
            Severity::Error => ("error", Tone::Bad),
        };
        let when =
            if wide { clock::rfc3339(event.at_ms) } else { output::age(now_ms.saturating_sub(event.at_ms)) };
        let cells: [Cell; 5] = [
            when.into(),
            Cell::new(severity, tone),
            event.kind.clone().into(),
            event.subject.clone().into(),
            event.message.clone().into(),
        ];
        table.row(cells);
    }
    table
}

#[cfg(test)]
mod tests {
    use crate::cli::events::fresh;
    use crate::model::view::{EventView, Severity};

    fn event(at_ms: u64) -> EventView {
        let text = String::new;
        EventView { at_ms, severity: Severity::Info, kind: text(), subject: text(), message: text() }
    }

    #[test]
    fn an_event_is_fresh_once_even_when_older_ones_were_let_go() {
        let all: Vec<_> = [1, 2, 2, 3, 4, 5].map(event).to_vec();

        assert_eq!(fresh(&all[..4], &all[1..]), &all[4..]);
        assert_eq!(fresh(&all, &all), []);
        assert_eq!(fresh(&[], &all), all);
        assert_eq!(fresh(&all[..2], &all[3..]), &all[3..]);
    }
}
