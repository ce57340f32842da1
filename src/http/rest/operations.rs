//! What can be done at which URL, as OpenAPI describes it. [`super::Rest`] and [`super::Place`] do it; a test compares.

/// An HTTP method at a URL.
pub(in super::super) struct RestOperation {
    /// A template.
    pub(in super::super) path: &'static str,
    pub(in super::super) method: &'static str,
    /// The status if it succeeds.
    pub(in super::super) status: u16,
    /// Parameters behind the question mark, none of which is required.
    pub(in super::super) query: &'static [&'static str],
    pub(in super::super) summary: &'static str,
}

/// Parameters that select units.
const UNITS: &[&str] = &["name", "status", "previous", "limit"];

macro_rules! operations {
    (@query) => { &[] };
    (@query $query:expr) => { $query };
    ($($path:expr => { $($method:ident $status:literal $summary:literal $(, $query:expr)?;)* })*) => {
        /// All of them.
        pub(in super::super) const OPERATIONS: &[RestOperation] = &[$($(RestOperation {
            path: $path,
            method: stringify!($method),
            status: $status,
            query: operations!(@query $($query)?),
            summary: $summary,
        }),*),*];
    };
}

macro_rules! of_spec {
    ($rest:literal) => {
        concat!("/namespace/{namespace}/work_spec/{work_spec}", $rest)
    };
}

macro_rules! of_attempt {
    ($rest:literal) => {
        concat!(
            "/namespace/{namespace}/work_spec/{work_spec}/work_unit/{work_unit}/attempt/{worker}/{attempt}",
            $rest
        )
    };
}

macro_rules! of_worker {
    ($rest:literal) => {
        concat!("/namespace/{namespace}/worker/{worker}", $rest)
    };
}

operations! {
    "/" => { GET 200 "The root: URLs of the namespaces and the summary"; }
    "/summary" => { GET 200 "How many units of each work spec are in each status"; }
    "/namespace" => {
        GET 200 "The namespaces";
        POST 201 "Makes a namespace";
    }
    "/namespace/{namespace}" => {
        GET 200 "A namespace";
        DELETE 204 "Removes a namespace with everything in it";
    }
    "/namespace/{namespace}/summary" => { GET 200 "The summary of a namespace"; }
    "/namespace/{namespace}/work_spec" => {
        GET 200 "The work specs of a namespace";
        POST 201 "Makes or replaces a work spec";
    }
    of_spec!("") => {
        GET 200 "A work spec";
        PUT 204 "Replaces a work spec";
        DELETE 204 "Deletes a work spec with its units";
    }
    of_spec!("/meta") => {
        GET 200 "How a work spec is scheduled", &["counts"];
        PUT 204 "Changes how a work spec is scheduled";
    }
    of_spec!("/counts") => { GET 200 "How many units it has in each status"; }
    of_spec!("/summary") => { GET 200 "How many units it has in each status, as a summary"; }
    of_spec!("/change") => { POST 204 "Sets the priority of units", UNITS; }
    of_spec!("/adjust") => { POST 204 "Adds to the priority of units", UNITS; }
    of_spec!("/work_unit") => {
        GET 200 "Its units", UNITS;
        POST 201 "Adds a unit";
        DELETE 200 "Deletes units", UNITS;
    }
    of_spec!("/work_unit/{work_unit}") => {
        GET 200 "A unit";
        PUT 204 "Clears the active attempt of a unit, or sets when it is handed out";
    }
    of_spec!("/work_unit/{work_unit}/attempts") => { GET 200 "The attempts at a unit, the oldest first"; }
    of_spec!("/work_unit/{work_unit}/num-attempts") => { GET 200 "How many attempts there were at a unit"; }
    of_attempt!("") => { GET 200 "An attempt"; }
    of_attempt!("/renew") => { POST 204 "Renews the lease"; }
    of_attempt!("/expire") => { POST 204 "Ends the attempt as expired"; }
    of_attempt!("/finish") => { POST 204 "Reports that the unit is finished"; }
    of_attempt!("/fail") => { POST 204 "Reports that the unit has failed"; }
    of_attempt!("/retry") => { POST 204 "Ends the attempt, so that the unit is tried again"; }
    of_worker!("") => {
        GET 200 "A worker";
        PUT 204 "Changes a worker, or keeps it alive";
    }
    of_worker!("/request_attempts") => { POST 200 "Gives a worker units"; }
    of_worker!("/make_attempt") => { POST 201 "Gives a worker a certain unit"; }
    of_worker!("/active_attempts") => { GET 200 "Its pending attempts"; }
    of_worker!("/all_attempts") => { GET 200 "Its attempts, of whatever status"; }
    of_worker!("/child_attempts") => { GET 200 "The pending attempts of its children"; }
}
