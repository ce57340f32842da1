//! How the units of a work spec are queued.

/// The order in which units of the same priority are handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By the bytes of their names.
    #[default]
    Name,
    /// First in, first out.
    Added,
}

impl Order {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Name, Self::Added];

    /// The word for it in a definition.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Added => "added",
        }
    }
}

/// How the units of a work spec are queued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queueing {
    /// The order of units with the same priority.
    pub order: Order,
    /// Units are taken of each group in turn. Priority and order decide among the units of one group.
    pub in_turn: bool,
}

/// Where a unit stands among those of the same priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// By its name, before all that have a number.
    #[default]
    ByName,
    /// By this number, which grows with each unit that is added.
    Number(i64),
    /// Behind all others: the store gives it the next number.
    Last,
}

/// How a unit is queued when it is available.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queued {
    /// The group that it was added to, if one was stated.
    pub group: Option<String>,
    /// Its place among those of the same priority.
    pub place: Place,
    /// It is taken when it is the turn of its group. Units without a group are one group together.
    pub in_turn: bool,
}

impl Queued {
    /// A unit that is added to a work spec which queues its units in this way.
    #[must_use]
    pub fn new(group: Option<String>, queueing: Queueing) -> Self {
        let mut queued = Self {
            group,
            ..Self::default()
        };
        queued.queue(queueing);
        queued
    }

    /// Queues a unit as its work spec says now. If it has a place in the order of adding, it keeps it.
    pub(super) fn queue(&mut self, queueing: Queueing) {
        self.in_turn = queueing.in_turn;
        self.place = match (queueing.order, self.place) {
            (Order::Name, _) => Place::ByName,
            (Order::Added, Place::ByName) => Place::Last,
            (Order::Added, place) => place,
        };
    }

    /// The name of the group whose turn it waits for, if it waits for one.
    #[must_use]
    pub fn group_in_turn(&self) -> Option<&str> {
        self.in_turn
            .then(|| self.group.as_deref().unwrap_or_default())
    }
}

/// A group with available units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextGroup {
    /// Its name; empty for units without a group.
    pub name: String,
    /// How many of its units are pending.
    pub pending: u64,
}
