//! `POST /units/SPEC`: adding units from a stream of JSON lines, as they arrive.
//!
//! Lines are gathered to batches, and the next bytes are read once a batch is committed: so an upload takes the same memory
//! however long it is, and a client can't send faster than the disk writes. If the client names its upload, how far it has
//! come is kept with the units ([`crate::coordinate::Uploaded`]).

use super::body::Share;
use super::call::Shared;
use super::limits::{
    UPLOAD_BATCH_BYTES, UPLOAD_LINE_BYTES_MAX, UPLOAD_MEMORY, UPLOAD_RATIO_MAX, UPLOADS_MAX,
};
use super::name_in_url::into_name;
use super::problem::{self, Problem};
use super::rest::query_parameters;
use crate::coordinate::storage::{Access, Storage};
use crate::coordinate::{IfExists, Name, Scope, Scopes, Uploaded, UploadedLines};
use crate::jobserver::{Actor, Caller, Realm};
use crate::limits::SLICE_ITEMS;
use axum::Extension;
use axum::body::Body;
use axum::extract::{RawPathParams, Request, State};
use axum::http::header::{CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, HeaderValue, Uri};
use axum::response::{IntoResponse, Response};
use coordinated_client::cbor::json_text::ToCbor;
use coordinated_client::cbor::{Item, scan};
use flate2::write::MultiGzDecoder;
use http_body_util::BodyExt;
use serde::Serialize;
use serde::de::DeserializeSeed;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};

/// What names an upload.
pub(super) const UPLOAD_ID: HeaderName = HeaderName::from_static("upload-id");

/// How long its name may be.
const UPLOAD_ID_BYTES_MAX: usize = 128;

/// Compressed bytes that are decompressed at once. They become a thousand times as many at most.
const COMPRESSED_PIECE: usize = 1 << 10;

/// A compressed upload may grow to this without regard to [`UPLOAD_RATIO_MAX`].
const DECOMPRESSED_ANYHOW: u64 = 16 << 20;

/// Who may add units, as for `add_work_units`.
const MAY_ADD: Scopes = Scopes::of(&[Scope::Submit]);
/// Who may see how far an upload has come. Who uploads has to.
const MAY_SEE: Scopes = Scopes::of(&[Scope::Read, Scope::Submit]);

/// How far an upload has come, as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct UploadState {
    /// The line that is at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    /// Lines whose units are on disk.
    lines: u64,
    new: u64,
    reset: u64,
    skipped: u64,
}

impl UploadState {
    fn new(uploaded: Uploaded, line: Option<u64>) -> Self {
        Self {
            line,
            lines: uploaded.lines,
            new: uploaded.added.new,
            reset: uploaded.added.reset,
            skipped: uploaded.added.skipped,
        }
    }

    fn into_response(self) -> Response {
        // Fails for no state: it has only numbers.
        let text = serde_json::to_vec(&self).unwrap_or_default();
        ([(CONTENT_TYPE, "application/json")], text).into_response()
    }
}

/// `GET /units/SPEC`: how far the upload of the header `Upload-Id` has come.
pub(super) async fn state<S: Storage>(
    State(shared): State<Arc<Shared<S>>>,
    Extension(mut caller): Extension<Caller>,
    path: RawPathParams,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let target = Target::read(&shared, &path, &uri, &headers)?;
    shared.check(&mut caller, Realm::In(&target.namespace), MAY_SEE)?;
    let Some(name) = target.upload else {
        let detail = "the header Upload-Id is missing: it names the upload that is asked for";
        return Err(Problem::new(problem::INVALID, detail));
    };
    let _request = shared.begin_request()?;
    let spec = target.work_spec;
    let actor = Arc::new(Actor::new(caller));
    let find = shared.run(actor, target.namespace, Access::Read, move |operation| {
        operation.uploaded(&spec, &name)
    });
    let (uploaded, _) = find.await.map_err(Problem::from)?;
    Ok(UploadState::new(uploaded, None).into_response())
}

/// `POST /units/SPEC`: adds the units of a body of JSON lines.
pub(super) async fn add<S: Storage>(
    State(shared): State<Arc<Shared<S>>>,
    Extension(caller): Extension<Caller>,
    path: RawPathParams,
    request: Request,
) -> Response {
    match receive(&shared, caller, &path, request).await {
        Ok(state) => state.into_response(),
        Err(problem) => {
            let mut response = problem.into_response();
            // The rest of the body was not read, so no other request can follow it.
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
            response
        }
    }
}

/// # Errors
/// Why the upload ended early.
async fn receive<S: Storage>(
    shared: &Shared<S>,
    mut caller: Caller,
    path: &RawPathParams,
    request: Request,
) -> Result<UploadState, Problem> {
    let target = Target::read(shared, path, request.uri(), request.headers())?;
    shared.check(&mut caller, Realm::In(&target.namespace), MAY_ADD)?;
    let text = Text::of_encoding(request.headers())?;
    let _request = shared.begin_request()?;
    let mut upload = Upload::begin(shared, caller, target, text).await?;
    match upload.receive(request.into_body()).await {
        Ok(()) => Ok(UploadState::new(upload.uploaded, None)),
        Err(fault) => {
            let state = UploadState::new(upload.uploaded, fault.line);
            Err(fault.problem.of_upload(state))
        }
    }
}

/// What a request is about.
struct Target {
    namespace: Arc<str>,
    work_spec: Name,
    if_exists: IfExists,
    /// The number of the first line.
    from_line: u64,
    /// The name of the upload.
    upload: Option<Arc<str>>,
}

impl Target {
    /// # Errors
    /// If a parameter or the header can't be used.
    fn read<S: Storage>(
        shared: &Shared<S>,
        path: &RawPathParams,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Self, Problem> {
        let invalid = |detail: String| Problem::new(problem::INVALID, detail);
        let work_spec = path.iter().map(|(_, value)| value).next();
        let work_spec = work_spec.unwrap_or_default();
        let mut target = Self {
            namespace: Arc::clone(&shared.namespace),
            work_spec: into_name(percent_encoding::percent_decode_str(work_spec).collect()),
            if_exists: IfExists::default(),
            from_line: 1,
            upload: None,
        };
        for (key, value) in query_parameters(uri.query()) {
            let text = String::from_utf8_lossy(&value);
            match &*key {
                b"namespace" => target.namespace = text.into(),
                b"if_exists" => {
                    target.if_exists = IfExists::from_wire(&value).ok_or_else(|| {
                        let expected = "expected reset, skip or error";
                        invalid(format!("parameter if_exists: {expected}, got {text:?}"))
                    })?;
                }
                b"from_line" => {
                    let line = text
                        .parse()
                        .ok()
                        .filter(|line| (1..=1 << 62).contains(line));
                    target.from_line = line.ok_or_else(|| {
                        let expected = "expected the number of a line, from 1 on";
                        invalid(format!("parameter from_line: {expected}, got {text:?}"))
                    })?;
                }
                _ => {
                    let key = String::from_utf8_lossy(&key);
                    return Err(invalid(format!(
                        "unknown parameter {key:?} of /units: it takes if_exists, namespace and from_line"
                    )));
                }
            }
        }
        if let Some(id) = headers.get(UPLOAD_ID) {
            let name = id.to_str().ok();
            let is_name = |name: &&str| (1..=UPLOAD_ID_BYTES_MAX).contains(&name.len());
            let name = name.filter(is_name).ok_or_else(|| {
                invalid(format!(
                    "the header Upload-Id must have 1 to {UPLOAD_ID_BYTES_MAX} visible ASCII characters"
                ))
            })?;
            target.upload = Some(name.into());
        }
        Ok(target)
    }
}

/// The text of a body that comes in pieces, and perhaps compressed.
struct Text {
    /// What has come and is not taken.
    bytes: Vec<u8>,
    /// How much of it is known to have no end of a line.
    searched: usize,
    decoder: Option<MultiGzDecoder<Vec<u8>>>,
    received: u64,
    decompressed: u64,
}

impl Text {
    /// # Errors
    /// If the encoding is not known.
    fn of_encoding(headers: &HeaderMap) -> Result<Self, Problem> {
        let encoding = headers.get(CONTENT_ENCODING);
        let encoding = encoding.map_or(b"identity".as_slice(), |encoding| encoding.as_bytes());
        let decoder = match encoding.to_ascii_lowercase().as_slice() {
            b"identity" | b"" => None,
            b"gzip" | b"x-gzip" => Some(MultiGzDecoder::new(Vec::new())),
            _ => {
                let encoding = String::from_utf8_lossy(encoding);
                return Err(Problem::new(
                    problem::UNKNOWN_ENCODING,
                    format!("the encoding {encoding:?} is not known: send gzip, or none"),
                ));
            }
        };
        Ok(Self {
            bytes: Vec::new(),
            searched: 0,
            decoder,
            received: 0,
            decompressed: 0,
        })
    }

    /// The size of the pieces that [`Text::push`] takes.
    fn piece(&self) -> usize {
        match self.decoder {
            Some(_) => COMPRESSED_PIECE,
            None => UPLOAD_BATCH_BYTES,
        }
    }

    /// # Errors
    /// If it is not gzip, or a bomb.
    fn push(&mut self, piece: &[u8]) -> Result<(), Problem> {
        let Some(decoder) = &mut self.decoder else {
            self.bytes.extend_from_slice(piece);
            return Ok(());
        };
        let written = decoder.write_all(piece).and_then(|()| decoder.flush());
        written.map_err(not_gzip)?;
        let decompressed = decoder.get_mut();
        self.received += piece.len() as u64;
        self.decompressed += decompressed.len() as u64;
        self.bytes.append(decompressed);
        if self.decompressed > DECOMPRESSED_ANYHOW.max(self.received * UPLOAD_RATIO_MAX) {
            return Err(Problem::new(
                problem::TOO_LARGE,
                format!(
                    "the body has become more than {UPLOAD_RATIO_MAX} times as large by decompression; \
                     send it without compression"
                ),
            ));
        }
        Ok(())
    }

    /// # Errors
    /// If the compressed text ends early.
    fn finish(&mut self) -> Result<(), Problem> {
        if let Some(mut decoder) = self.decoder.take() {
            if self.received > 0 {
                decoder.try_finish().map_err(not_gzip)?;
            }
            self.bytes.append(decoder.get_mut());
        }
        Ok(())
    }

    /// Where the next whole line ends.
    fn line_end(&mut self) -> Option<usize> {
        let rest = self.bytes.get(self.searched..)?;
        match rest.iter().position(|byte| *byte == b'\n') {
            Some(at) => Some(self.searched + at),
            None => {
                self.searched = self.bytes.len();
                None
            }
        }
    }
}

fn not_gzip(error: std::io::Error) -> Problem {
    Problem::new(
        problem::INVALID,
        format!("the body can't be decompressed: {error}"),
    )
}

/// Why an upload ended early.
struct Fault {
    line: Option<u64>,
    problem: Problem,
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        Self {
            line: None,
            problem,
        }
    }
}

/// An upload that is received.
struct Upload<'s, S: Storage + 'static> {
    shared: &'s Shared<S>,
    caller: Caller,
    actor: Arc<Actor>,
    target: Target,
    text: Text,
    /// What is on disk.
    uploaded: Uploaded,
    /// The number of the last line that was read.
    line: u64,
    batch: Batch,
    /// Until when a whole line has to arrive.
    deadline: Instant,
    _place: SemaphorePermit<'s>,
    _share: Share,
}

/// Lines that are added together.
#[derive(Default)]
struct Batch {
    /// Each line that has units, with its number, in CBOR.
    lines: Vec<(u64, Vec<u8>)>,
    units: usize,
    bytes: usize,
}

impl<'s, S: Storage + 'static> Upload<'s, S> {
    /// # Errors
    /// If there are too many uploads, or if this one can't go on from the line that it names.
    async fn begin(
        shared: &'s Shared<S>,
        caller: Caller,
        target: Target,
        text: Text,
    ) -> Result<Upload<'s, S>, Problem> {
        let place = shared.uploads.try_acquire().map_err(|_| {
            let detail = format!("{UPLOADS_MAX} uploads are being received; try again later");
            Problem::new(problem::BUSY, detail)
        })?;
        let share = shared.bodies.share_of_bodies(UPLOAD_MEMORY)?;
        let actor = Arc::new(Actor::new(caller.clone()));
        let (spec, name) = (target.work_spec.clone(), target.upload.clone());
        let find = shared.run(
            Arc::clone(&actor),
            Arc::clone(&target.namespace),
            Access::Read,
            move |operation| match &name {
                Some(name) => operation.uploaded(&spec, name).map(Some),
                None => operation.work_spec(&spec).map(|_| None),
            },
        );
        let before = target.from_line - 1;
        let uploaded = match find.await.map_err(Problem::from)?.0 {
            None => Uploaded {
                lines: before,
                ..Uploaded::default()
            },
            Some(uploaded) if uploaded.lines < before => {
                let detail = format!(
                    "the upload has come to line {}: go on from line {}",
                    uploaded.lines,
                    uploaded.lines + 1
                );
                let problem = Problem::new(problem::REFUSED, detail);
                return Err(problem.of_upload(UploadState::new(uploaded, None)));
            }
            Some(uploaded) => uploaded,
        };
        Ok(Self {
            shared,
            caller,
            actor,
            target,
            text,
            uploaded,
            line: before,
            batch: Batch::default(),
            deadline: Instant::now() + shared.limits.body_time_max,
            _place: place,
            _share: share,
        })
    }

    /// Adds all of a body. If that fails, everything before the fault is added.
    async fn receive(&mut self, body: Body) -> Result<(), Fault> {
        let read = self.read(body).await;
        // What came before the fault is added, and if that fails it is the first fault.
        self.flush().await?;
        read
    }

    async fn read(&mut self, mut body: Body) -> Result<(), Fault> {
        loop {
            // While nothing comes, what is there is added.
            let frame = match timeout(Duration::ZERO, body.frame()).await {
                Ok(frame) => frame,
                Err(_) => {
                    self.flush().await?;
                    let frame = timeout_at(self.deadline, body.frame()).await;
                    frame.map_err(|_| self.too_slow())?
                }
            };
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|error| {
                Problem::new(problem::INVALID, format!("the body broke off: {error}"))
            })?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            for piece in data.chunks(self.text.piece()) {
                self.text.push(piece)?;
                self.take_lines().await?;
                tokio::task::yield_now().await;
            }
        }
        self.text.finish()?;
        self.take_lines().await?;
        let last = std::mem::take(&mut self.text.bytes);
        if !last.is_empty() {
            self.take_line(&last).await?;
        }
        Ok(())
    }

    fn too_slow(&self) -> Problem {
        let time = humantime::format_duration(self.shared.limits.body_time_max);
        Problem::new(
            problem::TIMED_OUT,
            format!("no whole line arrived within {time} (limit http-body-timeout)"),
        )
    }

    /// Takes the whole lines that are there.
    async fn take_lines(&mut self) -> Result<(), Fault> {
        let mut begin = 0;
        while let Some(end) = self.text.line_end() {
            let line = self.text.bytes.get(begin..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
            (begin, self.text.searched) = (end + 1, end + 1);
            self.take_line(&line).await?;
            // Blank lines can be very many, and other requests have their turn.
            if self.line.is_multiple_of(SLICE_ITEMS as u64) {
                tokio::task::yield_now().await;
            }
        }
        self.text.bytes.drain(..begin);
        self.text.searched -= begin;
        if self.text.bytes.len() > UPLOAD_LINE_BYTES_MAX {
            return Err(self.fault_in(self.line + 1, too_long()));
        }
        Ok(())
    }

    /// Takes a line into the batch, and adds the batch if it is large enough.
    async fn take_line(&mut self, line: &[u8]) -> Result<(), Fault> {
        self.deadline = Instant::now() + self.shared.limits.body_time_max;
        let number = self.line + 1;
        let has_units = !line.starts_with(b"#") && !line.iter().all(u8::is_ascii_whitespace);
        if has_units && number > self.uploaded.lines {
            let (units, cbor) = self
                .units_of(line)
                .map_err(|problem| self.fault_in(number, problem))?;
            if self.batch.units + units > SLICE_ITEMS {
                self.flush().await?;
            }
            self.batch.units += units;
            self.batch.bytes += cbor.len();
            self.batch.lines.push((number, cbor));
        }
        self.line = number;
        if self.batch.bytes >= UPLOAD_BATCH_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    fn fault_in(&self, number: u64, problem: Problem) -> Fault {
        Fault {
            line: Some(number),
            problem: problem.of_line(number),
        }
    }

    /// A line as CBOR, and how many units it has.
    ///
    /// # Errors
    /// If it is no JSON, or too much for one line.
    fn units_of(&self, line: &[u8]) -> Result<(usize, Vec<u8>), Problem> {
        if line.len() > UPLOAD_LINE_BYTES_MAX {
            return Err(too_long());
        }
        let invalid = |detail: String| Problem::new(problem::INVALID, detail);
        let mut cbor = Vec::with_capacity(line.len());
        let mut json = serde_json::Deserializer::from_slice(line);
        ToCbor(&mut cbor)
            .deserialize(&mut json)
            .and_then(|()| json.end())
            .map_err(|error| invalid(format!("it is not JSON: {error}")))?;
        scan::check(&cbor, self.shared.limits.depth_max)
            .map_err(|error| invalid(error.to_string()))?;
        let units = Item::from_checked(&cbor)
            .as_map()
            .map_or(1, Iterator::count);
        if units > SLICE_ITEMS {
            return Err(invalid(format!(
                "it has {units} units, at most {SLICE_ITEMS} are allowed in one line"
            )));
        }
        Ok((units, cbor))
    }

    /// Adds the batch.
    async fn flush(&mut self) -> Result<(), Fault> {
        let last = self.line;
        if last <= self.uploaded.lines {
            return Ok(());
        }
        // An upload can take hours, in which its token may be revoked or expire.
        let realm = Realm::In(&self.target.namespace);
        self.shared.check(&mut self.caller, realm, MAY_ADD)?;
        let batch = std::mem::take(&mut self.batch);
        let (before, if_exists) = (self.uploaded, self.target.if_exists);
        let (spec, name) = (self.target.work_spec.clone(), self.target.upload.clone());
        let namespace = Arc::clone(&self.target.namespace);
        let actor = Arc::clone(&self.actor);
        let add = self
            .shared
            .run(actor, namespace, Access::Write, move |operation| {
                let lines = batch.lines.iter();
                let lines = UploadedLines {
                    lines: lines
                        .map(|(number, cbor)| (*number, Item::from_checked(cbor)))
                        .collect(),
                    last,
                };
                operation.upload_units(&spec, name.as_deref(), &before, &lines, if_exists)
            });
        let (step, _) = add.await.map_err(|failed| {
            let detail = format!("lines {} to {last}: ", before.lines + 1);
            Problem::from(failed).after(&detail)
        })?;
        self.uploaded = step.uploaded;
        match step.bad_line {
            Some((number, reason)) => {
                Err(self.fault_in(number, Problem::new(problem::INVALID, reason)))
            }
            None => Ok(()),
        }
    }
}

fn too_long() -> Problem {
    let detail = format!("it has more than {UPLOAD_LINE_BYTES_MAX} bytes");
    Problem::new(problem::TOO_LARGE, detail)
}
