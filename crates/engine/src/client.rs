//! Whose turn it is among clients: how many rows each of them had. Pure bookkeeping: who the clients are is the caller's
//! business, and nobody is remembered after their last request.

use std::collections::HashMap;

/// Steps of waiting that count as much as one level of priority.
pub const AGE: u64 = 32;

/// Who a request belongs to, where shares are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Client {
    /// Nobody's: a request that shares with no other, by its id.
    Own(u64),
    /// A client, by its number.
    Named(u64),
}

impl Client {
    /// That of a request: client 0 stands for a client of its own.
    pub fn of(client: u64, request: u64) -> Self {
        match client {
            0 => Client::Own(request),
            client => Client::Named(client),
        }
    }
}

/// What a client had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Rows; who had less goes first.
    pub rows: u64,
    /// Last step in which prefills of it had rows; 0 for none.
    pub filled: u64,
}

/// What clients had, as long as they have requests. A newcomer stands just before the one that had least: it goes first,
/// but cannot claim what others had while it was away.
#[derive(Debug, Default)]
pub struct Shares {
    clients: HashMap<Client, Share>,
    newcomer: Share,
}

impl Shares {
    /// What a client had.
    pub fn had(&self, client: Client) -> Share {
        self.clients.get(&client).copied().unwrap_or(self.newcomer)
    }

    /// A client has rows in step `now`.
    pub fn charge(&mut self, client: Client, rows: usize, prefill: bool, now: u64) {
        let share = self.clients.entry(client).or_insert(self.newcomer);
        share.rows += rows as u64;
        if prefill {
            share.filled = now;
        }
    }

    /// Between steps: forgets clients without requests.
    pub fn settle(&mut self, present: impl Fn(Client) -> bool) {
        self.clients.retain(|&client, _| present(client));
        let least = self.clients.values().map(|share| share.rows).min();
        self.newcomer.rows = least.map_or(0, |least| least.saturating_sub(1));
    }
}

/// Priority of what waits since `since`, in levels: nothing waits for ever.
pub(crate) fn level(priority: i8, since: u64, now: u64) -> i64 {
    i64::from(priority) + (now.saturating_sub(since) / AGE) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newcomer_goes_first_and_claims_nothing_from_before() {
        let (old, new) = (Client::of(1, 7), Client::of(2, 8));
        let mut shares = Shares::default();
        shares.charge(old, 1000, true, 5);
        shares.charge(old, 1, false, 6);
        shares.settle(|_| true);
        assert_eq!(shares.had(old), Share { rows: 1001, filled: 5 });
        assert_eq!(shares.had(new), Share { rows: 1000, filled: 0 });
        shares.charge(new, 2, false, 7);
        assert_eq!(shares.had(new), Share { rows: 1002, filled: 0 });
    }

    #[test]
    fn nobody_is_remembered_after_the_last_request() {
        let mut shares = Shares::default();
        shares.charge(Client::of(0, 7), 10, true, 1);
        shares.charge(Client::of(1, 8), 1000, true, 1);
        shares.settle(|client| client == Client::Named(1));
        assert_eq!(shares.clients.len(), 1);
        assert_eq!(shares.had(Client::Own(7)).rows, 999);
        shares.settle(|_| false);
        assert_eq!(shares.had(Client::Named(1)), Share::default());
    }

    #[test]
    fn requests_without_a_client_are_all_different_ones() {
        assert_ne!(Client::of(0, 1), Client::of(0, 2));
        assert_eq!(Client::of(3, 1), Client::of(3, 2));
        assert_ne!(Client::of(1, 1), Client::of(0, 1));
    }

    #[test]
    fn waiting_counts_like_priority() {
        assert_eq!(level(5, 100, 100), 5);
        assert_eq!(level(0, 100, 100 + 5 * AGE), 5);
        assert!(level(i8::MIN, 0, 255 * AGE) >= level(i8::MAX, 255 * AGE, 255 * AGE));
    }
}
