//! Tokens, joining, renewing.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;

use crate::api::wire::{Issued, JoinRequest, RenewRequest, TokenCreated, TokenInfo, TokenRequest};
use crate::control::enrollment;
use crate::control::http::access::Caller;
use crate::control::http::answer::{Read, Refused};
use crate::control::plane::Plane;
use crate::logic::state::Change;

pub(crate) async fn join(
    State(plane): State<Arc<Plane>>,
    Read(request): Read<JoinRequest>,
) -> Result<Json<Issued>, Refused> {
    Ok(Json(enrollment::join(&plane, request).await?))
}

pub(crate) async fn renew(
    State(plane): State<Arc<Plane>>,
    Extension(caller): Extension<Caller>,
    Read(request): Read<RenewRequest>,
) -> Result<Json<Issued>, Refused> {
    Ok(Json(enrollment::renew(&plane, caller.holder()?, request).await?))
}

pub(crate) async fn create_token(
    State(plane): State<Arc<Plane>>,
    Read(request): Read<TokenRequest>,
) -> Result<(StatusCode, Json<TokenCreated>), Refused> {
    Ok((StatusCode::CREATED, Json(enrollment::create_token(&plane, request).await?)))
}

pub(crate) async fn list_tokens(State(plane): State<Arc<Plane>>) -> Json<Vec<TokenInfo>> {
    Json(enrollment::list_tokens(&plane))
}

pub(crate) async fn revoke_token(
    State(plane): State<Arc<Plane>>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refused> {
    if !plane.store.state().tokens().contains_key(&id) {
        return Err(Refused::new(StatusCode::NOT_FOUND, format!("there is no token {id}")));
    }
    plane.submit(Change::RevokeToken { id }).await?;
    Ok(StatusCode::NO_CONTENT)
}
