//! Sessions that routes keep: the same backend and endpoint for one client.

use serde_json::{Value, json};

use crate::data_path::caller::Got;
use crate::data_path::routes::scene::Stage;

fn rule(session: &Value, weights: (u32, u32)) -> Value {
    json!([{
        "sessionPersistence": session,
        "backendRefs": [{ "name": "v1", "weight": weights.0 }, { "name": "v2", "weight": weights.1 }]
    }])
}

fn cookie(got: &Got) -> String {
    got.header("set-cookie").split(';').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_keeps_a_client_with_its_backend_even_when_that_has_no_weight_any_more() {
    let stage = Stage::new(&["web", "v1", "v2"]).await;
    let session = json!({ "sessionName": "shop" });
    stage.route(rule(&session, (1, 0)));

    let first = stage.ask("GET", "/", &[]).await;
    assert_eq!(first.header("x-service"), "v1");
    let said = first.header("set-cookie").to_owned();
    assert!(said.starts_with("shop=") && !said.contains("Max-Age"), "{said}");
    let token = cookie(&first);

    stage.route(rule(&session, (0, 1)));
    for _ in 0..5 {
        let again = stage.ask("GET", "/", &[("cookie", &token)]).await;
        assert_eq!((again.header("x-service"), again.header("set-cookie")), ("v1", ""));
    }
    assert_eq!(stage.ask("GET", "/", &[]).await.header("x-service"), "v2");
    let forged = stage.ask("GET", "/", &[("cookie", "shop=0123456789abcdef01234567")]).await;
    assert_eq!(forged.header("x-service"), "v2");
    assert!(forged.header("set-cookie").starts_with("shop="));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_field_keeps_a_client_too() {
    let stage = Stage::new(&["web", "v1", "v2"]).await;
    let session = json!({ "type": "Header", "sessionName": "X-Session" });
    stage.route(rule(&session, (1, 0)));
    let token = stage.ask("GET", "/", &[]).await.header("x-session").to_owned();
    assert_eq!(token.len(), 24);

    stage.route(rule(&session, (0, 1)));

    let again = stage.ask("GET", "/", &[("x-session", &token)]).await;
    assert_eq!((again.header("x-service"), again.header("x-session")), ("v1", ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permanent_cookie_says_for_how_long_and_a_session_ends_by_its_age() {
    let stage = Stage::new(&["web", "v1", "v2"]).await;
    let session = json!({ "absoluteTimeout": "1h", "cookieConfig": { "lifetimeType": "Permanent" } });
    stage.route(rule(&session, (1, 0)));
    let first = stage.ask("GET", "/", &[]).await;
    let said = first.header("set-cookie").to_owned();
    assert!(said.starts_with("mesh-session-") && said.contains("Max-Age=3600"), "{said}");

    // The same endpoint, but a session that began in 1970.
    let token = cookie(&first);
    let old = format!("{}{}", &token[..token.len() - 8], "00000001");
    stage.route(rule(&session, (0, 1)));

    assert_eq!(stage.ask("GET", "/", &[("cookie", &token)]).await.header("x-service"), "v1");
    assert_eq!(stage.ask("GET", "/", &[("cookie", &old)]).await.header("x-service"), "v2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_used_goes_on_and_one_that_is_not_ends() {
    let stage = Stage::new(&["web", "v1", "v2"]).await;
    let session = json!({ "sessionName": "s", "idleTimeout": "10m" });
    stage.route(rule(&session, (1, 0)));
    let token = cookie(&stage.ask("GET", "/", &[]).await);
    stage.route(rule(&session, (0, 1)));

    let used = stage.ask("GET", "/", &[("cookie", &token)]).await;
    assert_eq!(used.header("x-service"), "v1");
    // Each answer says when it was used last.
    assert!(used.header("set-cookie").starts_with("s="));
    let idle = format!("{token}00000001");
    assert_eq!(stage.ask("GET", "/", &[("cookie", &idle)]).await.header("x-service"), "v2");
}
