//! Why calls fail: the table in README.md is the one in force, line by line.

use std::collections::BTreeSet;

use mesh::proxy::failure::{Consequence, Failed, Failure, Fault, Retry};

const README: &str = include_str!("../../README.md");
const HEAD: &str = "| `mesh-failure` | HTTP | gRPC | tried elsewhere | whose doing | what happened |";

/// Returns a failure's line of the table.
fn line(failure: Failure) -> String {
    let Consequence { status, grpc_status, token, retry, fault, words, .. } = failure.consequence();
    let retry = match retry {
        Retry::Safe => "always",
        Retry::Idempotent => "if idempotent",
        Retry::Never => "never",
    };
    let fault = match fault {
        Fault::Caller => "caller",
        Fault::Callee => "callee",
        Fault::Policy => "configuration",
        Fault::Proxy => "this proxy",
    };
    format!("| `{token}` | {} | {grpc_status} | {retry} | {fault} | {words} |", status.as_u16())
}

#[test]
fn the_readme_says_what_follows_from_each_failure() {
    let after = README.split_once(HEAD).expect("README.md has the table of failures").1;
    let written: Vec<_> = after.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
    let in_force: Vec<_> = Failure::ALL.into_iter().map(line).collect();

    assert_eq!(written, in_force, "the table in README.md should be:\n{HEAD}\n{}", in_force.join("\n"));
}

#[test]
fn a_code_on_the_wire_means_one_failure_and_zero_none() {
    let codes: BTreeSet<u8> = Failure::ALL.iter().map(|failure| failure.consequence().code).collect();

    assert_eq!(codes.len(), Failure::ALL.len());
    for failure in Failure::ALL {
        assert_eq!(Failure::from_code(failure.consequence().code), Some(failure));
    }
    assert_eq!(Failure::from_code(0), None);
}

#[test]
fn what_the_caller_did_is_never_tried_again_and_never_held_against_the_service() {
    for failure in Failure::ALL.into_iter().filter(|failure| failure.consequence().fault == Fault::Caller) {
        assert_eq!(failure.consequence().retry, Retry::Never, "{failure:?}");
        assert!(!failure.blames_endpoint() && !failure.counts_as_failed(), "{failure:?}");
    }
}

#[test]
fn an_endpoint_is_avoided_only_for_what_another_one_may_do_better() {
    for failure in Failure::ALL.into_iter().filter(|failure| failure.blames_endpoint()) {
        let Consequence { retry, fault, .. } = failure.consequence();
        assert!(retry != Retry::Never && fault == Fault::Callee, "{failure:?}");
    }
}

#[test]
fn a_failure_says_what_happened_and_then_what_exactly() {
    let bare = Failed::from(Failure::Unreachable).to_string();
    let exact = Failed::new(Failure::Unreachable, "connection refused").to_string();

    assert_eq!(bare, Failure::Unreachable.consequence().words);
    assert_eq!(exact, format!("{bare}: connection refused"));
}
