//! The API of the control plane: the table of [`crate::api::endpoint`], bound to handlers.
//!
//! - [`answer`]: bodies in, answers and refusals out.
//! - [`access`]: who is calling, and may they.
//! - [`stream`]: answers that go on: the newest wins, a slow reader never grows a queue.
//! - [`enroll`], [`resources`], [`writing`], [`fleet`], [`view`], [`calls`], [`keeping`], [`assets`], [`programs`]: the handlers.
//! - [`serve`]: the listeners; each connection bounded in number, time and size.

pub mod answer;
pub mod access;
pub mod stream;
pub mod enroll;
pub mod resources;
pub mod writing;
pub mod fleet;
pub mod view;
pub mod calls;
pub mod keeping;
pub mod openapi;
pub mod assets;
pub mod programs;
pub mod admin;
pub mod serve;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{Method as HttpMethod, StatusCode, Uri};
use axum::middleware;
use axum::routing::{MethodRouter, delete, get, post, put};

use crate::api::endpoint::{ENDPOINTS, Operation, Right};
use crate::control::http::answer::{BODY_MAX, Refused, STRANGER_BODY_MAX};
use crate::control::plane::Plane;
use crate::logic::state::Change;
use crate::model::name::NodeName;

/// Builds the router from the table.
pub fn router(plane: &Arc<Plane>) -> Router {
    let mut router = Router::new();
    for endpoint in ENDPOINTS {
        let guard = middleware::from_fn_with_state((Arc::clone(plane), endpoint.right), access::guard);
        let limit =
            DefaultBodyLimit::max(if endpoint.right == Right::Token { STRANGER_BODY_MAX } else { BODY_MAX });
        router = router.route(endpoint.path, handler(endpoint.operation).route_layer(guard).layer(limit));
    }
    router.fallback(no_such_path).method_not_allowed_fallback(no_such_method).with_state(Arc::clone(plane))
}

fn handler(operation: Operation) -> MethodRouter<Arc<Plane>> {
    let mark = |change: fn(NodeName) -> Change| {
        move |plane: State<Arc<Plane>>, name: Path<String>| fleet::mark(plane, name, change)
    };
    let ban = |change: fn(NodeName) -> Change| {
        move |plane: State<Arc<Plane>>, name: Path<String>| fleet::ban(plane, name, change)
    };
    match operation {
        Operation::Join => post(enroll::join),
        Operation::Renew => post(enroll::renew),
        Operation::CreateToken => post(enroll::create_token),
        Operation::ListTokens => get(enroll::list_tokens),
        Operation::RevokeToken => delete(enroll::revoke_token),
        Operation::ListResources => get(resources::list),
        Operation::ReadResource => get(resources::read),
        Operation::WriteResource => put(writing::write),
        Operation::DeleteResource => delete(writing::remove),
        Operation::Apply => post(writing::apply),
        Operation::ReadHistory => get(writing::history),
        Operation::Rollback => post(writing::rollback),
        Operation::Why => post(view::why),
        Operation::ReadDefaults => get(writing::read_defaults),
        Operation::SetDefaults => put(writing::set_defaults),
        Operation::FollowSnapshot => get(fleet::snapshot),
        Operation::Acknowledge => post(fleet::acknowledge),
        Operation::Report => post(fleet::report),
        Operation::AnswerInquiry => post(calls::answer),
        Operation::View => get(view::view),
        Operation::TraceRequest => get(calls::request),
        Operation::FollowCalls => get(calls::follow),
        Operation::Status => get(view::status),
        Operation::Authority => get(view::authority),
        Operation::Catalog => get(view::catalog),
        Operation::Reach => get(view::reach),
        Operation::Ban => post(ban(Change::Ban)),
        Operation::Unban => delete(ban(Change::Unban)),
        Operation::Drain => post(mark(Change::Drain)),
        Operation::Undrain => delete(mark(Change::Undrain)),
        Operation::Forget => delete(fleet::forget),
        Operation::Upgrade => post(programs::upgrade),
        Operation::FollowOrders => get(programs::follow),
        Operation::RefuseOrder => post(programs::refuse),
        Operation::Programs => get(programs::list),
        Operation::Backup => get(keeping::backup),
        Operation::Restore => post(keeping::restore),
        Operation::OpenApi => get(openapi::serve),
        Operation::Installer => get(assets::installer),
        Operation::Executable => get(assets::executable),
        Operation::Sums => get(assets::sums),
        Operation::ExecutableSum => get(assets::executable_sum),
    }
}

async fn no_such_path(uri: Uri) -> Refused {
    Refused::new(StatusCode::NOT_FOUND, format!("there is nothing at {}; see /openapi.json", uri.path()))
}

async fn no_such_method(method: HttpMethod, uri: Uri) -> Refused {
    let detail = format!("{method} is not for {}; see /openapi.json", uri.path());
    Refused::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}
