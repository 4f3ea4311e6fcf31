//! The YAML file of `--config`: every flag of a command has a key of the same name in it.
//!
//! Its values become the defaults of the flags, so that one parser checks them all and the order of precedence (flag,
//! environment, file, built-in) is clap's own.

use std::path::Path;

use anyhow::{Context as _, bail};
use clap::Command;
use serde_json::Value;

/// A file larger than this is not a configuration.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Returns the flags and values that `path` sets, in its order.
fn read(path: &Path) -> anyhow::Result<Vec<(String, Vec<String>)>> {
    let place = path.display();
    let length =
        std::fs::metadata(path).with_context(|| format!("cannot read the configuration file {place}"))?.len();
    if length > FILE_BYTES_MAX {
        bail!("the configuration file {place} has {length} bytes, more than the {FILE_BYTES_MAX} allowed");
    }
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration file {place}"))?;
    let values: Option<serde_json::Map<String, Value>> =
        serde_saphyr::from_str(&text).with_context(|| format!("in the configuration file {place}"))?;
    let flatten = |(key, value): (String, Value)| {
        let values = match value {
            Value::Array(items) => items.iter().map(|item| scalar(&key, item)).collect::<Result<_, _>>()?,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                vec![scalar(&key, &value)?]
            }
        };
        Ok((key, values))
    };
    let flags: anyhow::Result<Vec<_>> = values.unwrap_or_default().into_iter().map(flatten).collect();
    flags.with_context(|| format!("in the configuration file {place}"))
}

fn scalar(key: &str, value: &Value) -> anyhow::Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            bail!("'{key}' should be a text, a number, true or false, or a list of them")
        }
    }
}

/// Makes the values in the file at `path` the defaults of `command`'s flags.
///
/// # Errors
/// When the file cannot be read, is not a mapping, or has a key that is no flag of the command.
pub(crate) fn apply(mut command: Command, path: &Path) -> anyhow::Result<Command> {
    for (key, values) in read(path)? {
        let found =
            command.get_arguments().find(|arg| arg.get_long() == Some(key.as_str()) && key != "config");
        let Some(id) = found.map(|arg| arg.get_id().clone()) else {
            let known: Vec<_> = command
                .get_arguments()
                .filter(|arg| !arg.is_hide_set())
                .filter_map(clap::Arg::get_long)
                .filter(|name| *name != "config")
                .collect();
            bail!(
                "the configuration file {} sets '{key}', which 'mesh {}' does not know; it knows {}",
                path.display(),
                command.get_name(),
                known.join(", ")
            );
        };
        command = command.mut_arg(id, |arg| arg.default_values(values));
    }
    Ok(command)
}
