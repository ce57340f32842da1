//! The files of the page, which are in the program. Their URLs change with their content, so browsers keep them.

use super::error::PageError;
use crate::http::problem::{self, Problem};
use axum::body::Body;
use axum::extract::Path;
use axum::http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use std::sync::LazyLock;

struct Asset {
    name: &'static str,
    media: &'static str,
    content: &'static [u8],
}

const ASSETS: &[Asset] = &[
    Asset {
        name: "page.css",
        media: "text/css; charset=utf-8",
        content: include_bytes!("assets/page.css"),
    },
    Asset {
        name: "page.js",
        media: "text/javascript; charset=utf-8",
        content: include_bytes!("assets/page.js"),
    },
    Asset {
        name: "idiomorph.min.js",
        media: "text/javascript; charset=utf-8",
        content: include_bytes!("assets/idiomorph.min.js"),
    },
    Asset {
        name: "icon.svg",
        media: "image/svg+xml",
        content: include_bytes!("assets/icon.svg"),
    },
];

/// An asset that can be sent.
struct Ready {
    asset: &'static Asset,
    /// What its URL ends with.
    versioned: String,
    compressed: Vec<u8>,
}

static READY: LazyLock<Vec<Ready>> = LazyLock::new(|| {
    let ready = |asset: &'static Asset| {
        let mut sum = flate2::Crc::new();
        sum.update(asset.content);
        Ready {
            versioned: format!("{:08x}-{}", sum.sum(), asset.name),
            compressed: gzip(asset.content),
            asset,
        }
    };
    ASSETS.iter().map(ready).collect()
});

/// The name of an asset with a sum of its content.
pub(super) fn versioned(name: &str) -> &'static str {
    let ready = READY.iter().find(|ready| ready.asset.name == name);
    ready.map_or("", |ready| &ready.versioned)
}

/// Bytes, compressed.
pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Fails never: it writes to memory.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

/// `GET /ui/assets/NAME`. An older name gets nothing, so that nobody keeps another version under it.
pub(super) async fn get(
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    let Some(ready) = READY.iter().find(|ready| ready.versioned == name) else {
        let detail = format!("this version of the daemon has no file {name}: reload the page");
        return Err(Problem::new(problem::NOT_FOUND, detail).into());
    };
    let accepted = headers.get(ACCEPT_ENCODING).and_then(|it| it.to_str().ok());
    let takes_gzip = accepted.is_some_and(|accepted| accepted.contains("gzip"));
    let mut response = match takes_gzip {
        true => Body::from(ready.compressed.as_slice()),
        false => Body::from(ready.asset.content),
    }
    .into_response();
    let headers = response.headers_mut();
    let kept = "public, max-age=31536000, immutable";
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(kept));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(ready.asset.media));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if takes_gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_module_is_small() {
        let module = ASSETS.iter().find(|asset| asset.name == "page.js");
        assert!(module.is_some_and(|module| module.content.len() <= 15 * 1024));
    }
}
