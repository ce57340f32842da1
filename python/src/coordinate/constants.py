"""Numbers and names that clients, workers and the daemon agree on."""

# The status of a work unit.
AVAILABLE = 1
BLOCKED = 2  # never used by any server
PENDING = 3
FINISHED = 4
FAILED = 5

WORK_UNIT_STATUS_BY_NAME = {
    "AVAILABLE": AVAILABLE,
    "BLOCKED": BLOCKED,
    "PENDING": PENDING,
    "FINISHED": FINISHED,
    "FAILED": FAILED,
}
WORK_UNIT_STATUS_NAMES_BY_NUMBER = {number: name for name, number in WORK_UNIT_STATUS_BY_NAME.items()}

# The usual priorities of work units; any other number is allowed.
PRI_GENERATED = -1
PRI_STANDARD = 0
PRI_PRIORITY = 1

# The status of a work spec.
RUNNABLE = 1
PAUSED = 2

WORK_SPEC_STATUS_BY_NAME = {"RUNNABLE": RUNNABLE, "PAUSED": PAUSED}
WORK_SPEC_STATUS_NAMES_BY_NUMBER = {number: name for name, number in WORK_SPEC_STATUS_BY_NAME.items()}

# The modes that workers report.
RUN = "RUN"
IDLE = "IDLE"
TERMINATE = "TERMINATE"

# The length of a lease, in seconds.
MAX_LEASE_SECONDS = 24 * 60 * 60
MIN_LEASE_SECONDS = 1
DEFAULT_LEASE_SECONDS = 300
