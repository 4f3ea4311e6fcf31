//! Proxies that are to run another program: told once, by operators, and listened to.

use axum::http::StatusCode;
use mesh::control::http::access::Caller;
use serde_json::json;

use crate::contract::api::{line, tomorrow, world};

const OLD: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

#[tokio::test]
async fn a_proxy_that_listens_is_told_once_and_says_why_it_keeps_its_program_or_runs_the_new_one() {
    let world = world().await;
    let host = world.joined("host-1", &[]).await;
    let caller = || host.caller(tomorrow());
    let row = async || {
        let (status, programs) = world.call(Caller::Local, "GET", "/v1/programs", None).await;
        assert_eq!(status, StatusCode::OK);
        (programs["program"].as_str().unwrap().to_owned(), programs["proxies"][0].clone())
    };
    let upgrade = async || world.call(Caller::Local, "POST", "/v1/nodes/host-1/upgrade", None).await;

    let (status, problem) = upgrade().await;
    assert_eq!(status, StatusCode::CONFLICT, "nobody listens: {problem}");
    assert!(row().await.1["program"].is_null());

    let mut orders =
        world.follow(caller(), &format!("/v1/program?watch=true&build=0.0.1&program={OLD}")).await;
    let (status, first) = upgrade().await;
    assert_eq!(status, StatusCode::OK, "{first}");
    assert_eq!(line(&mut orders).await.unwrap(), first);
    assert_eq!(upgrade().await.1, first, "it is at it already");
    let (new, told) = row().await;
    assert_eq!((first["program"].as_str(), told["order"].clone()), (Some(new.as_str()), first["id"].clone()));

    let reason = json!({ "id": first["id"], "reason": "no space is left" });
    let (status, _) = world.call(caller(), "POST", "/v1/program", Some(reason)).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(row().await.1["refused"], "no space is left");
    let (_, second) = upgrade().await;
    assert!(second["id"].as_u64() > first["id"].as_u64(), "tried again: {second}");
    assert_eq!(line(&mut orders).await.unwrap(), second);

    // The new process is there before the old one has gone, and is told nothing.
    let new_orders =
        world.follow(caller(), &format!("/v1/program?watch=true&build=0.0.2&program={new}")).await;
    drop(orders);
    let done = row().await.1;
    assert_eq!((done["program"].as_str(), done["build"].as_str()), (Some(new.as_str()), Some("0.0.2")));
    assert!(done["order"].is_null() && done["refused"].is_null(), "{done}");
    let (status, _) = upgrade().await;
    assert_eq!(status, StatusCode::CONFLICT, "it runs it already");
    drop(new_orders);
    assert!(row().await.1["program"].is_null());
}

#[tokio::test]
async fn nodes_tell_nobody_what_to_run_and_operators_no_others_than_proxies() {
    let world = world().await;
    let host = world.joined("host-1", &[]).await;

    let (status, _) = world.call(host.caller(tomorrow()), "POST", "/v1/nodes/host-1/upgrade", None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    for (node, expected) in [("control", StatusCode::NOT_FOUND), ("nobody", StatusCode::NOT_FOUND)] {
        let (status, problem) =
            world.call(Caller::Local, "POST", &format!("/v1/nodes/{node}/upgrade"), None).await;
        assert_eq!(status, expected, "{problem}");
    }
    let (status, _) =
        world.call(host.caller(tomorrow()), "GET", "/v1/program?watch=true&program=nonsense", None).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}
