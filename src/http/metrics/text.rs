//! The two text formats.

use super::collector::Collected;
use prometheus_client::encoding::{prometheus_text, text as openmetrics_text};
use prometheus_client::registry::Registry;

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus' own, version 0.0.4.
    Prometheus,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl Format {
    /// OpenMetrics if the client's header `Accept` names it, and else that of Prometheus, which all understand.
    pub(super) fn accepted(accept: &str) -> Self {
        let names_it = accept.split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default();
            media_type.eq_ignore_ascii_case("application/openmetrics-text")
                && !parts.any(|parameter| matches!(parameter, "q=0" | "q=0.0"))
        });
        if names_it {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    pub(super) fn write(self, collected: Collected) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(collected));
        let mut text = String::new();
        let written = match self {
            Self::Prometheus => prometheus_text::encode(&mut text, &registry),
            Self::OpenMetrics => openmetrics_text::encode(&mut text, &registry),
        };
        // Writing to a string does not fail.
        written.unwrap_or_default();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_openmetrics_only_if_the_client_names_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for accept in [prometheus, "text/plain, Application/OpenMetrics-Text"] {
            assert_eq!(Format::accepted(accept), Format::OpenMetrics, "{accept}");
        }
        for accept in ["", "*/*", "text/plain", "application/openmetrics-text; q=0"] {
            assert_eq!(Format::accepted(accept), Format::Prometheus, "{accept}");
        }
    }
}
