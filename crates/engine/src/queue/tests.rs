//! The order of admission, and that nobody waits for ever.

use std::collections::HashMap;

use hob_testkit::Rng;
use proptest::prelude::*;

use super::*;
use crate::client::Shares;

fn ticket(id: u64, client: u64, priority: i8, since: u64) -> Ticket {
    Ticket { id, client, priority, since }
}

fn queue(tickets: &[Ticket]) -> Queue<()> {
    let mut queue = Queue::default();
    tickets.iter().for_each(|&ticket| queue.push(ticket, ()));
    queue
}

/// The order in which all are picked in step `now` when each client holds what was picked of it.
fn order(mut queue: Queue<()>, now: u64) -> Vec<u64> {
    let (mut held, mut round) = (HashMap::new(), Round::new(now));
    let mut order = Vec::new();
    loop {
        let standing = |client| Standing { held: held.get(&client).copied().unwrap_or(0), had: 0 };
        let Some(pick) = round.next(&queue, false, standing) else { return order };
        assert_eq!(queue.take(&pick), Some(()));
        *held.entry(pick.client()).or_default() += 1;
        order.push(pick.ticket.id);
    }
}

#[test]
fn clients_take_turns_and_arrival_decides_within_each() {
    let tickets = [1, 1, 1, 2, 2, 0, 0].into_iter().enumerate();
    let tickets: Vec<_> = tickets.map(|(id, client)| ticket(id as u64, client, 0, 1)).collect();
    // 5 and 6 are nobody's, and share with nobody.
    assert_eq!(order(queue(&tickets), 1), [0, 3, 5, 6, 1, 4, 2]);
}

#[test]
fn priority_goes_first_and_grows_with_waiting() {
    let tickets = [ticket(0, 1, 0, 1), ticket(1, 2, 3, 1), ticket(2, 1, 5, 1)];
    assert_eq!(order(queue(&tickets), 1), [2, 1, 0]);
    let late = |after| [ticket(0, 1, 0, 1), ticket(1, 2, 3, 1 + after)];
    assert_eq!(order(queue(&late(3 * AGE - 1)), 3 * AGE), [1, 0]);
    assert_eq!(order(queue(&late(3 * AGE)), 1 + 3 * AGE), [0, 1]);
}

#[test]
fn a_client_that_is_served_does_not_age() {
    let now = 1 + 10 * AGE;
    let mut queue = queue(&[ticket(0, 1, 0, 1), ticket(1, 2, 0, now)]);
    let standing = |client| Standing { held: 0, had: u64::from(client == Client::Named(1)) };
    let first = |queue: &Queue<()>| Round::new(now).next(queue, false, standing).unwrap();
    assert_eq!(first(&queue).ticket.id, 0);
    queue.note(Client::Named(1), now);
    let pick = first(&queue);
    assert_eq!((pick.ticket.id, pick.newcomer, pick.overdue), (1, true, false));
}

#[test]
fn who_has_less_goes_first() {
    let queue = queue(&[ticket(0, 1, 0, 1), ticket(1, 2, 0, 1), ticket(2, 3, 0, 1)]);
    let first = |standings: [(usize, u64); 3], reserved| {
        let standing = |client| match client {
            Client::Named(n) => standings[n as usize - 1],
            Client::Own(_) => unreachable!(),
        };
        let standing = |client| {
            let (held, had) = standing(client);
            Standing { held, had }
        };
        Round::new(1).next(&queue, reserved, standing).map(|pick| pick.ticket.id)
    };
    assert_eq!(first([(2, 0), (1, 9), (1, 8)], false), Some(2));
    assert_eq!(first([(2, 0), (1, 9), (0, 99)], true), Some(2));
    assert_eq!(first([(2, 0), (1, 9), (1, 8)], true), None);
}

#[test]
fn what_is_cancelled_is_taken_out() {
    let mut queue = Queue::default();
    (0..10).for_each(|id| queue.push(ticket(id, id % 3, 0, 1), id));
    let mut taken = queue.extract(|id| id % 3 == 1 || *id == 2);
    taken.sort_unstable();
    assert_eq!(taken, [1, 2, 4, 7]);
    assert!(!queue.has(Client::Named(1)) && queue.has(Client::Named(2)));
    assert_eq!(queue.extract(|_| true).len(), 6);
    assert!(queue.is_empty());
}

#[test]
fn an_eighth_and_at_least_one_is_kept() {
    let kept = |sequences| Reserve::of(sequences, &[64, 10]);
    assert_eq!(kept(1), Reserve { sequences: 0, pages: vec![0, 0] });
    assert_eq!(kept(2), Reserve { sequences: 1, pages: vec![32, 5] });
    assert_eq!(kept(8), Reserve { sequences: 1, pages: vec![8, 1] });
    assert_eq!(kept(32), Reserve { sequences: 4, pages: vec![8, 1] });
    assert!(kept(8).allows(&[56, 9], &[64, 10], false));
    assert!(!kept(8).allows(&[57, 9], &[64, 10], false));
    assert!(!kept(8).allows(&[56, 10], &[64, 10], false));
    assert!(kept(8).allows(&[64, 10], &[64, 10], true));
    assert!(!kept(8).allows(&[64, 10], &[63, 10], true));
}

/// A request of the simulation.
#[derive(Clone, Debug)]
struct Work {
    pages: usize,
    steps: u64,
}

/// An engine without a model: who runs, until when, and with how many pages.
struct Simulation {
    queue: Queue<Work>,
    running: Vec<(Ticket, Work, u64)>,
    sequences: usize,
    pages: usize,
    reserve: Reserve,
    shares: Shares,
    now: u64,
}

impl Simulation {
    fn new(sequences: usize, pages: usize) -> Self {
        let reserve = Reserve::of(sequences, &[pages]);
        let (queue, shares) = (Queue::default(), Shares::default());
        Simulation { queue, running: Vec::new(), sequences, pages, reserve, shares, now: 1 }
    }

    fn ask(&mut self, id: u64, client: u64, priority: i8, pages: usize, steps: u64) {
        self.queue.push(ticket(id, client, priority, self.now), Work { pages, steps });
    }

    fn held(&self, client: Client) -> usize {
        self.running.iter().filter(|(t, ..)| Client::of(t.client, t.id) == client).count()
    }

    fn free_pages(&self) -> usize {
        self.pages - self.running.iter().map(|(_, work, _)| work.pages).sum::<usize>()
    }

    /// One step: who ended goes, who may comes. Gives the admitted.
    fn step(&mut self) -> Vec<Ticket> {
        self.now += 1;
        self.running.retain(|(.., end)| *end > self.now);
        let clients: Vec<Client> =
            self.running.iter().map(|(t, ..)| Client::of(t.client, t.id)).collect();
        clients.iter().for_each(|&client| {
            self.queue.note(client, self.now);
            self.shares.charge(client, 1, false, self.now);
        });
        self.shares.settle(|client| clients.contains(&client) || self.queue.has(client));
        let mut round = Round::new(self.now);
        let mut admitted = Vec::new();
        while self.running.len() < self.sequences {
            let reserved = self.sequences - self.running.len() <= self.reserve.sequences;
            let standing =
                |client| Standing { held: self.held(client), had: self.shares.had(client).rows };
            let Some(pick) = round.next(&self.queue, reserved, standing) else { break };
            assert_eq!(pick.newcomer, self.held(pick.client()) == 0);
            let work = self.queue.get(&pick).unwrap();
            if !self.reserve.allows(&[work.pages], &[self.free_pages()], pick.newcomer) {
                round.refuse(&pick);
                continue;
            }
            let work = self.queue.take(&pick).unwrap();
            self.queue.note(pick.client(), self.now);
            let end = self.now + work.steps;
            self.running.push((pick.ticket, work, end));
            let left = (self.sequences - self.running.len(), self.free_pages());
            if !pick.newcomer {
                assert!(left.0 >= self.reserve.sequences && left.1 >= self.reserve.pages[0]);
            }
            admitted.push(pick.ticket);
        }
        assert!(
            !self.running.is_empty() || self.queue.is_empty(),
            "nothing runs, but something waits"
        );
        admitted
    }
}

#[test]
fn a_flood_leaves_room_for_a_newcomer() {
    for sequences in 2..40 {
        let mut engine = Simulation::new(sequences, sequences * 8);
        (0..200).for_each(|id| engine.ask(id, 1, 0, 8, 1000));
        assert_eq!(engine.step().len(), sequences - engine.reserve.sequences);
        engine.ask(1000, 2, 0, 8, 1000);
        engine.ask(1001, 2, 0, 8, 1000);
        let admitted: Vec<u64> = engine.step().iter().map(|t| t.id).collect();
        assert_eq!(admitted, [1000], "of {sequences}");
    }
}

#[test]
fn a_flood_shares_one_slot_too() {
    let mut engine = Simulation::new(1, 8);
    (0..64).for_each(|id| engine.ask(id, 1, 0, 8, 5));
    assert_eq!(engine.step()[0].id, 0);
    engine.ask(64, 2, 0, 8, 5);
    let admitted: Vec<u64> = (0..10).flat_map(|_| engine.step()).map(|t| t.id).collect();
    assert_eq!(admitted, [64, 1]);
}

#[test]
fn a_huge_request_is_passed_for_a_while_and_then_waited_for() {
    let mut engine = Simulation::new(8, 64);
    engine.ask(0, 1, 0, 30, 300);
    engine.step();
    engine.ask(1, 2, 0, 64, 10);
    let (mut id, mut passed, mut admitted) = (2, 0, None);
    for step in 0..400 {
        engine.ask(id, 0, 0, 4, 20);
        id += 1;
        for ticket in engine.step() {
            match ticket.id {
                1 => admitted = Some(step),
                _ if admitted.is_none() => passed += 1,
                _ => {}
            }
        }
    }
    assert!((1..=PATIENCE as usize + 1).contains(&passed), "{passed} passed it");
    assert!(admitted.is_some_and(|step| step <= 301), "{admitted:?}");
}

#[test]
fn the_lowest_priority_does_not_starve_beside_an_endless_flood_of_the_highest() {
    let mut engine = Simulation::new(1, 8);
    engine.ask(0, 1, i8::MIN, 8, 1);
    for id in 1..=256 * AGE + 10 {
        engine.ask(id, 0, i8::MAX, 8, 1);
        if engine.step().iter().any(|ticket| ticket.id == 0) {
            assert!(id >= 255 * AGE, "too early: {id}");
            return;
        }
    }
    panic!("starved");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    /// Requests of a few clients come for a while; all run, none waits longer than all work before it can take.
    #[test]
    fn everybody_gets_in(seed in any::<u64>(), sequences in 1usize..12, pages in 8usize..64) {
        let mut rng = Rng::new(seed);
        let mut engine = Simulation::new(sequences, pages);
        let (mut id, mut admitted, mut work) = (0, 0, 0);
        while engine.now < 200 {
            for _ in 0..rng.below(3) {
                let steps = 1 + rng.below(12) as u64;
                let (client, priority) = (rng.below(5) as u64, rng.below(7) as i8 - 3);
                engine.ask(id, client, priority, 1 + rng.below(pages), steps);
                id += 1;
                work += steps;
            }
            admitted += engine.step().len() as u64;
        }
        let bound = engine.now + work + id;
        while !engine.queue.is_empty() {
            admitted += engine.step().len() as u64;
            prop_assert!(engine.now <= bound, "{} wait", id - admitted);
        }
        prop_assert_eq!(admitted, id);
    }

    /// A request of low priority gets in while others never stop coming: within its levels, its patience and what runs.
    #[test]
    fn nobody_starves(seed in any::<u64>(), sequences in 1usize..6, low in -4i8..0, pages in 1usize..32) {
        let mut rng = Rng::new(seed);
        let mut engine = Simulation::new(sequences, 32);
        let clients = 1 + rng.below(4) as u64;
        engine.ask(0, 100, low, pages, 5);
        let longest = 20;
        // Two that wait per step at most: each is gone again if it finds no room, as impatient clients are.
        let bound = (5 - i64::from(low)) as u64 * AGE + PATIENCE + longest + 2;
        for id in 1..=bound {
            let client = rng.below(1 + clients as usize) as u64;
            engine.ask(id, client, 4, 1 + rng.below(16), 1 + rng.below(longest as usize) as u64);
            if engine.step().iter().any(|ticket| ticket.id == 0) {
                return Ok(());
            }
            let late = engine.now;
            engine.queue.lanes.retain(|&client, lane| {
                lane.entries.retain(|_, (ticket, _)| ticket.id == 0 || ticket.since + 8 > late);
                client == 100 || !lane.entries.is_empty()
            });
        }
        prop_assert!(false, "starved");
    }
}
