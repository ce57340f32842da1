//! Which completed units the daemon keeps: limits from flags, or from the configuration as in the Python daemon.

use super::values::parse_duration;
use crate::coordinate::Retention;
use crate::number::{as_float, duration_from_seconds};
use coordinated_client::cbor::{Item, Kind};
use std::time::Duration;

/// The retention flags of `serve`.
#[derive(clap::Args)]
#[command(next_help_heading = "Retention")]
pub(super) struct RetentionArgs {
    /// Number of finished units, and of failed units, that each work spec keeps. Older ones are archived: removed
    /// with their attempts, but still counted. By default all are kept. Can also be set in the configuration
    /// (coordinate: job_queue: limit_completed_count)
    #[arg(long, env = "COORDINATED_LIMIT_COMPLETED_COUNT", value_name = "N")]
    limit_completed_count: Option<u64>,

    /// How long finished and failed units are kept after completion. Can also be set in the configuration, in
    /// seconds (coordinate: job_queue: limit_completed_age)
    #[arg(long, env = "COORDINATED_LIMIT_COMPLETED_AGE", value_name = "TIME", value_parser = parse_duration)]
    limit_completed_age: Option<Duration>,
}

impl RetentionArgs {
    /// The limits from the flags, or else from an encoded configuration.
    ///
    /// # Errors
    /// If a limit in the configuration is invalid, even if a flag replaces it.
    pub(super) fn limits(&self, config: &[u8]) -> Result<Retention, String> {
        let configured = configured(config)?;
        Ok(Retention {
            count: self.limit_completed_count.or(configured.count),
            age: self.limit_completed_age.or(configured.age),
        })
    }
}

fn configured(config: &[u8]) -> Result<Retention, String> {
    let of = |name| {
        let job_queue = Item::from_checked(config)
            .get("coordinate")?
            .get("job_queue")?;
        job_queue.get_some(name)
    };
    let refuse = |name, expected, found: Item<'_>| {
        let found = found.kind_name();
        format!("coordinate: job_queue: {name}: expected {expected}, got {found}")
    };
    let count = of("limit_completed_count").map(|value| match value.kind() {
        Kind::Unsigned(count) => Ok(count),
        _ => Err(refuse(
            "limit_completed_count",
            "a number of units, or null for no limit",
            value,
        )),
    });
    let age = of("limit_completed_age").map(|value| match (value.kind(), as_float(value)) {
        (Kind::Unsigned(_) | Kind::Float(_), Some(seconds)) if seconds >= 0.0 => {
            Ok(duration_from_seconds(seconds))
        }
        _ => Err(refuse(
            "limit_completed_age",
            "a number of seconds, or null for no limit",
            value,
        )),
    });
    Ok(Retention {
        count: count.transpose()?,
        age: age.transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::config::encode_yaml;

    fn of_yaml(job_queue: &str) -> Result<Retention, String> {
        let yaml = format!("coordinate:\n  job_queue: {job_queue}\n");
        configured(&encode_yaml(&yaml).expect("a configuration"))
    }

    #[test]
    fn a_configuration_has_limits_where_the_python_daemon_looks_for_them() {
        let limits = of_yaml("{limit_completed_count: 0, limit_completed_age: 1.5}");
        let expected = Retention {
            count: Some(0),
            age: Some(Duration::from_millis(1_500)),
        };
        assert_eq!(limits, Ok(expected));
        for none in [
            "{limit_completed_count: null, limit_completed_age: ~}",
            "{}",
            "null",
            "5",
        ] {
            assert_eq!(of_yaml(none), Ok(Retention::default()), "{none}");
        }
        let elsewhere = encode_yaml("limit_completed_count: 5\n").expect("a configuration");
        assert_eq!(configured(&elsewhere), Ok(Retention::default()));
    }

    #[test]
    fn an_invalid_limit_is_refused_by_name() {
        for (job_queue, name) in [
            ("{limit_completed_count: -1}", "limit_completed_count"),
            ("{limit_completed_count: many}", "limit_completed_count"),
            ("{limit_completed_count: 1.5}", "limit_completed_count"),
            ("{limit_completed_age: -1}", "limit_completed_age"),
            ("{limit_completed_age: 1d}", "limit_completed_age"),
            ("{limit_completed_age: true}", "limit_completed_age"),
        ] {
            let refused = of_yaml(job_queue).expect_err(job_queue);
            assert!(refused.contains(name), "{refused}");
        }
    }

    #[test]
    fn a_flag_replaces_only_its_own_limit() {
        let config = encode_yaml(
            "coordinate: {job_queue: {limit_completed_count: 5, limit_completed_age: 60}}",
        );
        let args = RetentionArgs {
            limit_completed_count: Some(7),
            limit_completed_age: None,
        };
        let expected = Retention {
            count: Some(7),
            age: Some(Duration::from_secs(60)),
        };
        assert_eq!(args.limits(&config.expect("a configuration")), Ok(expected));
    }
}
