//! What the system tells about this process.

use procfs::WithCurrentSystemInfo;
use procfs::process::Process;

/// The resources that this process uses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resources {
    pub(super) cpu_seconds: f64,
    pub(super) virtual_bytes: u64,
    pub(super) resident_bytes: u64,
    pub(super) open_files: u64,
    /// `None` if there is no limit.
    pub(super) open_files_max: Option<u64>,
    pub(super) started_at: f64,
}

impl Resources {
    /// Asks the system. `None` if it does not tell.
    #[expect(clippy::cast_precision_loss, reason = "ticks since the start are few")]
    pub(super) fn of_this_process() -> Option<Self> {
        let process = Process::myself().ok()?;
        let stat = process.stat().ok()?;
        let ticks_per_second = procfs::ticks_per_second() as f64;
        let booted_at = procfs::boot_time_secs().ok()? as f64;
        let limit = process.limits().ok()?.max_open_files.soft_limit;
        Some(Self {
            cpu_seconds: (stat.utime + stat.stime) as f64 / ticks_per_second,
            virtual_bytes: stat.vsize,
            resident_bytes: stat.rss_bytes().get(),
            open_files: process.fd_count().ok()? as u64,
            open_files_max: match limit {
                procfs::process::LimitValue::Value(value) => Some(value),
                procfs::process::LimitValue::Unlimited => None,
            },
            started_at: booted_at + stat.starttime as f64 / ticks_per_second,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells_what_this_process_uses() {
        let resources = Resources::of_this_process().expect("they are told");
        assert!(resources.resident_bytes > 1 << 20);
        assert!(resources.virtual_bytes >= resources.resident_bytes);
        assert!(resources.open_files >= 3);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let age = now.expect("a time").as_secs_f64() - resources.started_at;
        assert!((-2.0..100_000.0).contains(&age), "{age}");
    }
}
