//! Places: the machines and GPUs that workers run on, and those that are set aside.

use super::openapi::Problems;
use super::problem::{Answer, Refusal};
use super::query::Query;
use super::{App, jobs};
use crate::access::Caller;
use crate::engine::Refused;
use axum::Json;
use axum::extract::{Path, State};
use framewake_proto::api::{Page, PlaceState, PlaceView};
use std::sync::Arc;

/// List the places where workers run, and those that are set aside, by name
#[utoipa::path(get, path = "/v1/places", tag = "places",
    params(
        ("state" = Option<PlaceState>, Query, description = "Only places in this state"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
        ("limit" = Option<u32>, Query, description = "1 to 1000, else 100"),
    ),
    responses((status = 200, body = Page<PlaceView>), Problems))]
pub(super) async fn list(State(app): State<Arc<App>>, caller: Caller, query: Query) -> Answer<Json<Page<PlaceView>>> {
    let query = query.only(&["state", "cursor", "limit"])?;
    let state: Option<PlaceState> = query.parsed("state", "`good`, `suspect`, `set_aside` or `on_trial`")?;
    let after = query.cursor(|text| Some(text.to_owned()))?;
    let limit = query.limit()? as usize;
    let mut places = all(&app).await?;
    places.retain(|place| {
        state.is_none_or(|state| state == place.state) && after.as_ref().is_none_or(|after| place.name > *after)
    });
    let next = (places.len() > limit).then(|| places[limit - 1].name.clone());
    places.truncate(limit);
    if caller.only().is_some() {
        // It tells of others' frames.
        for place in &mut places {
            place.reason.clear();
        }
    }
    Ok(Json(Page { items: places, next }))
}

/// Bring a place back that was set aside, because it is mended
#[utoipa::path(post, path = "/v1/places/{name}/restore", tag = "places",
    params(("name" = String, Path, description = "As in the list; `/` is written `%2F`")),
    responses((status = 200, body = PlaceView), Problems))]
pub(super) async fn restore(State(app): State<Arc<App>>, Path(name): Path<String>) -> Answer<Json<PlaceView>> {
    let none = || {
        let clipped: String = name.chars().take(200).collect();
        Refusal::not_found(format!("there is no place `{clipped}`")).hint("GET /v1/places lists them")
    };
    app.handle.restore_place(&name).await.map_err(|error| match error {
        Refused::NotFound => none(),
        error => jobs::refused(&error, None),
    })?;
    let place = all(&app).await?.into_iter().find(|place| place.name == name);
    // A good place without workers is not listed.
    let good = PlaceView { name: name.clone(), state: PlaceState::Good, ..PlaceView::default() };
    Ok(Json(place.unwrap_or(good)))
}

async fn all(app: &App) -> Answer<Vec<PlaceView>> {
    app.handle.places().await.map_err(|error| jobs::refused(&error, None))
}
