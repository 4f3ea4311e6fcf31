//! The YAML file of `--config`: every flag of a command has a key of the same name in it.
//!
//! Its values become the defaults of the flags, so that one parser checks them all and the order of precedence (flag,
//! environment, file, built-in) is clap's own.

use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use clap::Command;
use serde_json::Value;

use crate::logic::naming::similar;

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
        // Without the lines around it: in a log, an error is one line.
        serde_saphyr::from_str(&text)
            .map_err(|error| anyhow!("in the configuration file {place}: {}", error.without_snippet()))?;
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

/// The key whose values may be written as mappings, and what these may hold.
const SERVICE: &str = "service";
const SERVICE_KEYS: [&str; 8] =
    ["name", "namespace", "address", "port", "protocol", "user", "unit", "cgroup"];

/// Writes a service that is given as a mapping as its flag has it: `NAME.NAMESPACE=ADDRESS:PORT/PROTOCOL@OWNER`.
fn service(fields: &serde_json::Map<String, Value>) -> anyhow::Result<String> {
    if let Some(unknown) = fields.keys().find(|key| !SERVICE_KEYS.contains(&key.as_str())) {
        bail!("a service has no '{unknown}'; it has {}", SERVICE_KEYS.join(", "));
    }
    let field = |key: &str| fields.get(key).map(|value| scalar(key, value)).transpose();
    let needed = |key: &str| field(key)?.with_context(|| format!("a service needs '{key}'"));
    let part = |before: &str, key: &str, after: &str| -> anyhow::Result<String> {
        Ok(field(key)?.map(|text| format!("{before}{text}{after}")).unwrap_or_default())
    };
    let (name, port) = (needed("name")?, needed("port")?);
    let (namespace, protocol) = (part(".", "namespace", "")?, part("/", "protocol", "")?);
    let address = part("", "address", ":")?;
    let owners = [part("@user:", "user", "")?, part("@unit:", "unit", "")?, part("@cgroup:", "cgroup", "")?];
    if owners.iter().filter(|owner| !owner.is_empty()).count() > 1 {
        bail!("the service {name} has more than one of user, unit and cgroup");
    }
    Ok(format!("{name}{namespace}={address}{port}{protocol}{}", owners.concat()))
}

fn scalar(key: &str, value: &Value) -> anyhow::Result<String> {
    match value {
        Value::Object(fields) if key == SERVICE => service(fields),
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
            let meant = known.iter().find(|name| similar::are_close(&key, name));
            let meant = meant.map(|name| format!("did you mean '{name}'? ")).unwrap_or_default();
            bail!(
                "the configuration file {} sets '{key}', which 'mesh {}' does not know; {meant}It knows {}",
                path.display(),
                command.get_name(),
                known.join(", ")
            );
        };
        command = command.mut_arg(id, |arg| arg.default_values(values));
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command};
    use serde_json::{Value, json};

    use crate::cli::config_file::{apply, scalar};
    use crate::model::service::LocalService;

    #[test]
    fn errors_name_the_file_the_key_that_was_meant_and_the_line_in_one_line() {
        let told = |text: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            let command =
                Command::new("proxy").arg(Arg::new("s").long("service")).arg(Arg::new("z").long("zone"));
            let error = apply(command, file.path()).unwrap_err();
            (format!("{error:#}"), file.path().display().to_string())
        };

        let (near, _) = told("services: [web=80]\n");
        assert!(near.contains("did you mean 'service'?") && near.contains("service, zone"), "{near}");
        let (far, _) = told("colour: red\n");
        assert!(!far.contains("did you mean"), "{far}");
        let (broken, path) = told("zone: a\nservice: [\n");
        assert!(broken.contains(&path) && broken.contains("line ") && !broken.contains('\n'), "{broken}");
        assert!(!broken.contains("<input>"), "{broken}");
    }

    #[test]
    fn a_service_may_be_a_mapping() {
        let written = |value: Value| scalar("service", &value).map_err(|error| error.to_string());

        let full = json!({ "name": "web", "namespace": "shop", "address": "[::1]", "port": 80, "protocol": "http", "user": "www-data" });
        let text = written(full).unwrap();
        assert_eq!(text, "web.shop=[::1]:80/http@user:www-data");
        assert!(text.parse::<LocalService>().is_ok());
        assert_eq!(
            written(json!({ "name": "a", "port": 1, "unit": "a.service" })).unwrap(),
            "a=1@unit:a.service"
        );
        for (wrong, word) in [
            (json!({ "name": "a" }), "port"),
            (json!({ "name": "a", "port": 1, "users": "x" }), "users"),
            (json!({ "name": "a", "port": 1, "user": "x", "cgroup": "/x" }), "more than one"),
        ] {
            assert!(written(wrong.clone()).unwrap_err().contains(word), "{wrong}");
        }
        assert!(scalar("zone", &json!({ "name": "a", "port": 1 })).is_err());
    }
}
