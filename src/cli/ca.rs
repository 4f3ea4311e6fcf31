//! `mesh ca`: who signs the certificates of the mesh.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use data_encoding::BASE64;

use crate::api::client::Client;
use crate::api::wire::{AuthorityCertificate, AuthorityInfo};
use crate::cli::output::{self, Format};
use crate::identity::certificate::pem;
use crate::net::clock;

/// Flags of `mesh ca`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CaArgs {
    #[command(subcommand)]
    command: CaCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum CaCommand {
    /// Show the root and the intermediate that signs, for how long they last, and how many certificates there are
    Show {
        /// How to print
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Print the root certificate (PEM), for programs outside the mesh that are to trust it
    Export {
        /// The intermediate certificate as well, before the root
        #[arg(long)]
        chain: bool,
    },
}

/// Carries out a `mesh ca` command.
///
/// # Errors
/// Those of the control plane and of standard output.
pub(crate) async fn run(args: CaArgs, client: &Client) -> anyhow::Result<()> {
    let info = client.authority().await?;
    match args.command {
        CaCommand::Show { output } => Ok(match output {
            Format::Json => output::json(&info),
            Format::Yaml => output::yaml(&info),
            Format::Name => output::line(&info.root.fingerprint),
            Format::Table | Format::Wide => output::write(&describe(&info, clock::wall_ms())),
        }?),
        CaCommand::Export { chain } => {
            let signers = [&info.intermediate, &info.root];
            for signer in signers.into_iter().skip(usize::from(!chain)) {
                let der = BASE64.decode(signer.certificate.as_bytes());
                output::write(&pem(&der.context("the control plane's answer is no certificate")?))?;
            }
            Ok(())
        }
    }
}

fn describe(info: &AuthorityInfo, now_ms: u64) -> String {
    let key = if info.has_root_key {
        "on the control plane's host"
    } else {
        "not here: it was brought along, and is needed again for the next intermediate"
    };
    let valid: Vec<_> = info.valid.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let banned: Vec<_> = info.banned.iter().map(ToString::to_string).collect();
    let or_none = |parts: Vec<String>| if parts.is_empty() { "none".to_owned() } else { parts.join(", ") };
    output::facts(&[
        ("mesh", info.mesh.clone()),
        ("root", format!("sha256 {}", info.root.fingerprint)),
        ("", life(&info.root, now_ms)),
        ("root key", key.to_owned()),
        ("intermediate", format!("sha256 {}", info.intermediate.fingerprint)),
        ("", format!("{}; renewed by itself at half its life", life(&info.intermediate, now_ms))),
        ("certificates", format!("{} (valid now; each lasts a day)", or_none(valid))),
        ("banned", or_none(banned)),
    ])
}

fn life(signer: &AuthorityCertificate, now_ms: u64) -> String {
    let (begin, end) = (clock::rfc3339(signer.not_before_ms), clock::rfc3339(signer.not_after_ms));
    match signer.not_after_ms.checked_sub(now_ms) {
        Some(left_ms) => format!("{begin} to {end}, {} left", output::age(left_ms)),
        None => format!("{begin} to {end}: it has expired"),
    }
}
