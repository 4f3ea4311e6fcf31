//! `mesh token`: join tokens made, listed and taken back.

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::api::client::Client;
use crate::api::wire::{TokenCreated, TokenInfo, TokenRequest};
use crate::cli::output::{self, Cell, Format, Table, Tone};
use crate::model::endpoint::Role;
use crate::model::name::ServiceName;
use crate::net::clock;

/// How many nodes may join with a token unless told otherwise.
const DEFAULT_USES: u32 = 100;

/// Flags of `mesh token`.
#[derive(Debug, Clone, Args)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Clone, Subcommand)]
enum TokenCommand {
    /// Make a token and print it: the only time that its secret is seen
    Create(CreateArgs),
    /// List the tokens, the newest first, without their secrets
    List {
        /// How to print
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Take a token back; nodes that came with it stay
    Revoke {
        /// The token's public part: the second of its parts, as 'list' shows it
        #[arg(value_name = "ID")]
        id: String,
    },
}

#[derive(Debug, Clone, Args)]
struct CreateArgs {
    /// What its bearers may become: proxy (a host), or operator (a person who administers the mesh with 'mesh login')
    #[arg(long, default_value = "proxy", value_parser = role)]
    role: Role,
    /// Only hosts of this service may join (repeat); without one, hosts of any
    #[arg(long = "service", value_name = "NAME[.NAMESPACE]")]
    services: Vec<ServiceName>,
    /// How many hosts may join with it [default: 100; one operator]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    uses: Option<u32>,
    /// For how long: 90s, 24h, 7d
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = life)]
    ttl: Duration,
    /// Print the whole line to run on the other host
    #[arg(long)]
    install: bool,
    /// How to print: the token alone, or all that is known of it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

fn life(text: &str) -> Result<Duration, String> {
    let life = output::duration(text)?;
    if life < Duration::from_secs(1) { Err("a second at least".to_owned()) } else { Ok(life) }
}

fn role(text: &str) -> Result<Role, String> {
    match text {
        "proxy" => Ok(Role::Proxy),
        "operator" => Ok(Role::Operator),
        "control" => Err("a mesh has one control plane for now, and a second one cannot join it".to_owned()),
        _ => Err(format!("'{text}' is not a role: expected proxy or operator")),
    }
}

/// Carries out a `mesh token` command.
///
/// # Errors
/// Those of the control plane and of standard output.
pub(crate) async fn run(args: TokenArgs, client: &Client) -> anyhow::Result<()> {
    match args.command {
        TokenCommand::Create(args) => {
            let created = client.create_token(&request(&args)).await?;
            Ok(print_created(&created, args.install, args.output)?)
        }
        TokenCommand::List { output } => {
            let tokens = client.tokens().await?;
            let now_ms = clock::wall_ms();
            Ok(output::list(output, &tokens, |_| table(&tokens, now_ms), |token| token.id.clone())?)
        }
        TokenCommand::Revoke { id } => {
            client.revoke_token(&id).await?;
            output::note(&format!("token {id} revoked"));
            Ok(())
        }
    }
}

fn request(args: &CreateArgs) -> TokenRequest {
    TokenRequest {
        role: args.role,
        services: args.services.clone(),
        uses: args.uses.unwrap_or(if args.role == Role::Operator { 1 } else { DEFAULT_USES }),
        ttl_seconds: args.ttl.as_secs(),
    }
}

/// What is printed is what is pasted: nothing but the token, or the line, stands on standard output.
fn print_created(created: &TokenCreated, install: bool, format: Format) -> std::io::Result<()> {
    match format {
        Format::Json => output::json(created),
        Format::Yaml => output::yaml(created),
        Format::Name => output::line(&created.info.id),
        Format::Table | Format::Wide => output::line(if install { &created.install } else { &created.token }),
    }
}

fn table(tokens: &[TokenInfo], now_ms: u64) -> Table {
    let mut table = Table::new(&["id", "role", "services", ">uses left", "expires", "age"]);
    for token in tokens {
        let services: Vec<_> = token.services.iter().map(ToString::to_string).collect();
        let uses = if token.uses_left == 0 { Tone::Dim } else { Tone::Plain };
        let expires = match token.expires_ms.checked_sub(now_ms) {
            Some(left_ms) if left_ms > 0 => Cell::new(format!("in {}", output::age(left_ms)), Tone::Plain),
            Some(_) | None => Cell::new("expired", Tone::Dim),
        };
        table.row([
            token.id.as_str().into(),
            token.role.as_str().into(),
            if services.is_empty() { "any".into() } else { services.join(",").into() },
            Cell::new(token.uses_left.to_string(), uses),
            expires,
            output::age(now_ms.saturating_sub(token.created_ms)).into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::api::wire::TokenInfo;
    use crate::cli::token::{TokenArgs, TokenCommand, request, table};
    use crate::model::endpoint::Role;

    #[derive(Debug, Parser)]
    struct Words {
        #[command(flatten)]
        args: TokenArgs,
    }

    fn parse(words: &str) -> Result<TokenArgs, clap::Error> {
        Words::try_parse_from(format!("token {words}").split(' ')).map(|words| words.args)
    }

    #[test]
    fn flags_become_a_request() {
        let words = "create --service web --service db.shop --uses 3 --ttl 90m --install";
        let TokenCommand::Create(args) = parse(words).unwrap().command else { panic!("it is create") };

        let request = request(&args);

        let services: Vec<_> = request.services.iter().map(ToString::to_string).collect();
        assert_eq!(services, ["web.default", "db.shop"]);
        assert_eq!((request.role, request.uses, request.ttl_seconds), (Role::Proxy, 3, 5400));
        let refusal = |words| parse(words).unwrap_err().to_string();
        assert!(refusal("create --role king").contains("expected proxy or operator"));
        assert!(refusal("create --role control").contains("one control plane"));
        assert!(parse("create --ttl soon").is_err());
    }

    #[test]
    fn the_table_says_what_is_left_of_each_token() {
        let token = |id: &str, uses_left, expires_ms| TokenInfo {
            id: id.to_owned(),
            role: Role::Proxy,
            services: Vec::new(),
            uses_left,
            expires_ms,
            created_ms: 0,
        };

        let text = table(&[token("abcdef", 3, 7_260_000), token("ghijkl", 0, 1)], 60_000).render(None, false);

        assert_eq!(
            text,
            "ID       ROLE    SERVICES   USES LEFT   EXPIRES   AGE\n\
             abcdef   proxy   any                3   in 2h     60s\n\
             ghijkl   proxy   any                0   expired   60s\n"
        );
    }
}
