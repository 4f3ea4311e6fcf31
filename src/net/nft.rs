//! The `nft` tool: hands rules to the kernel, all of them or none.

use crate::net::tool::{self, Error};

/// Hands a text to `nft`, which does all of it or nothing.
///
/// # Errors
/// When it is not there, or refuses.
pub async fn apply(text: &str) -> Result<(), Error> {
    tool::run("nft", &["-f", "-"], text).await.map(drop)
}

/// Has `nft` check a text, which changes nothing.
///
/// # Errors
/// When it is not there, or would refuse.
pub async fn try_out(text: &str) -> Result<(), Error> {
    tool::run("nft", &["--check", "-f", "-"], text).await.map(drop)
}

/// Returns a table as `nft` writes it; `None` when there is none.
///
/// # Errors
/// When `nft` is not there, or does not end.
pub async fn table(name: &str) -> Result<Option<String>, Error> {
    let words: Vec<_> = ["list", "table"].into_iter().chain(name.split(' ')).collect();
    match tool::run("nft", &words, "").await {
        Ok(text) => Ok(Some(text)),
        Err(Error::Refused { words, .. }) if words.contains("No such file") => Ok(None),
        Err(error) => Err(error),
    }
}
