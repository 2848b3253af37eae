//! Which step is next: a pure state machine, without clock, threads or files.

use super::capacity::Capacity;
use crate::stage::Resources;
use std::collections::BTreeSet;

/// Steps that may wait for the disk beside those that run; more would only take memory.
const BACKLOG: usize = 16;

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// For its inputs, or to be looked up.
    Waiting,
    /// Looked up, waiting for another step with the same key.
    Parked,
    /// A miss that waits for resources.
    Queued,
    Running,
    /// Its work is done, and what it made is being kept: that takes the disk alone.
    Keeping,
    /// Its outputs are known.
    Done,
    /// It failed, was cancelled or skipped.
    Ended,
}

/// The steps of a plan, in its order, and how far each is. Each change costs what it touches, whatever the plan's size.
#[derive(Debug)]
pub(super) struct Scheduler {
    capacity: Capacity,
    needs: Vec<Resources>,
    states: Vec<State>,
    downstream: Vec<Vec<usize>>,
    /// How many steps upstream are not done yet.
    unknown: Vec<usize>,
    /// Waiting, with all inputs known.
    known: BTreeSet<usize>,
    queued: BTreeSet<usize>,
    running: BTreeSet<usize>,
    keeping: usize,
}

impl Scheduler {
    /// `needs` as granted by the capacity; `upstream`: the steps whose outputs each step reads.
    pub(super) fn new(capacity: Capacity, needs: Vec<Resources>, upstream: Vec<BTreeSet<usize>>) -> Self {
        let mut downstream = vec![Vec::new(); needs.len()];
        for (step, makers) in upstream.iter().enumerate() {
            for &maker in makers {
                downstream[maker].push(step);
            }
        }
        let unknown: Vec<usize> = upstream.iter().map(BTreeSet::len).collect();
        Self {
            capacity,
            states: vec![State::Waiting; needs.len()],
            known: (0..needs.len()).filter(|&i| unknown[i] == 0).collect(),
            needs,
            downstream,
            unknown,
            queued: BTreeSet::new(),
            running: BTreeSet::new(),
            keeping: 0,
        }
    }

    /// The first step that can be looked up: all its inputs are known.
    pub(super) fn known(&self) -> Option<usize> {
        self.known.first().copied()
    }

    /// All steps that can be looked up, in their order.
    pub(super) fn all_known(&self) -> impl Iterator<Item = usize> {
        self.known.iter().copied()
    }

    /// The first miss that fits beside what runs; it runs from now on.
    pub(super) fn admit(&mut self) -> Option<usize> {
        let running = || self.running.iter().map(|&i| self.needs[i]);
        let cpus: u64 = running().map(|r| u64::from(r.cpus)).sum();
        let keeping_up = self.keeping < self.capacity.jobs + BACKLOG;
        // Every step takes a processor: where none is left, the queue need not be searched.
        if self.running.len() >= self.capacity.jobs || cpus >= u64::from(self.capacity.cpus) || !keeping_up {
            return None;
        }
        let memory = running().fold(0_u64, |sum, r| sum.saturating_add(r.memory));
        let gpus: u64 = running().map(|r| u64::from(r.gpus)).sum();
        let fits = |need: Resources| {
            cpus + u64::from(need.cpus) <= u64::from(self.capacity.cpus)
                && memory.saturating_add(need.memory) <= self.capacity.memory
                && gpus + u64::from(need.gpus) <= u64::from(self.capacity.gpus)
        };
        let next = self.queued.iter().copied().find(|&i| fits(self.needs[i]))?;
        self.enter(next, State::Running);
        Some(next)
    }

    pub(super) fn queue(&mut self, step: usize) {
        self.enter(step, State::Queued);
    }

    pub(super) fn park(&mut self, step: usize) {
        self.enter(step, State::Parked);
    }

    /// Lets parked steps be looked up again.
    pub(super) fn unpark(&mut self, steps: &[usize]) {
        for &step in steps {
            if self.states[step] == State::Parked {
                self.enter(step, State::Waiting);
            }
        }
    }

    /// Gives back what a running step used; it has not ended yet.
    pub(super) fn release(&mut self, step: usize) {
        if self.states[step] == State::Running {
            self.enter(step, State::Keeping);
        }
    }

    pub(super) fn done(&mut self, step: usize) {
        self.enter(step, State::Done);
        for i in 0..self.downstream[step].len() {
            let reader = self.downstream[step][i];
            self.unknown[reader] -= 1;
            if self.unknown[reader] == 0 && self.states[reader] == State::Waiting {
                self.known.insert(reader);
            }
        }
    }

    pub(super) fn end(&mut self, step: usize) {
        self.enter(step, State::Ended);
    }

    /// How many steps execute, those that are being kept among them.
    pub(super) fn under_way(&self) -> usize {
        self.running.len() + self.keeping
    }

    /// Steps that neither run nor have ended.
    pub(super) fn unsettled(&self) -> Vec<usize> {
        (0..self.states.len()).filter(|&i| self.is_open(i)).collect()
    }

    /// Unsettled steps that need `step`, directly or not.
    pub(super) fn dependents(&self, step: usize) -> Vec<usize> {
        let (mut reached, mut next) = (BTreeSet::new(), vec![step]);
        while let Some(maker) = next.pop() {
            next.extend(self.downstream[maker].iter().copied().filter(|&reader| reached.insert(reader)));
        }
        reached.into_iter().filter(|&i| self.is_open(i)).collect()
    }

    fn is_open(&self, step: usize) -> bool {
        matches!(self.states[step], State::Waiting | State::Parked | State::Queued)
    }

    fn enter(&mut self, step: usize, state: State) {
        match self.states[step] {
            State::Waiting => drop(self.known.remove(&step)),
            State::Queued => drop(self.queued.remove(&step)),
            State::Running => drop(self.running.remove(&step)),
            State::Keeping => self.keeping -= 1,
            State::Parked | State::Done | State::Ended => {}
        }
        self.states[step] = state;
        match state {
            State::Waiting if self.unknown[step] == 0 => drop(self.known.insert(step)),
            State::Queued => drop(self.queued.insert(step)),
            State::Running => drop(self.running.insert(step)),
            State::Keeping => self.keeping += 1,
            State::Waiting | State::Parked | State::Done | State::Ended => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheduler(jobs: usize, cpus: u32, steps: &[(u32, &[usize])]) -> Scheduler {
        let capacity = Capacity { jobs, cpus, memory: 1000, gpus: 0 };
        let needs = steps.iter().map(|&(cpus, _)| Resources { cpus, ..Resources::ONE_CPU }).collect();
        Scheduler::new(capacity, needs, steps.iter().map(|(_, up)| up.iter().copied().collect()).collect())
    }

    fn queue_all_known(s: &mut Scheduler) -> Vec<usize> {
        let mut found = Vec::new();
        while let Some(i) = s.known() {
            s.queue(i);
            found.push(i);
        }
        found
    }

    #[test]
    fn a_step_is_known_once_all_it_needs_is_done() {
        let mut s = scheduler(4, 4, &[(1, &[]), (1, &[]), (1, &[0, 1])]);
        assert_eq!(queue_all_known(&mut s), [0, 1]);
        s.done(0);
        assert_eq!(s.known(), None);
        s.done(1);
        assert_eq!(s.known(), Some(2));
    }

    #[test]
    fn jobs_bound_how_many_run_side_by_side() {
        let mut s = scheduler(2, 8, &[(1, &[]), (1, &[]), (1, &[])]);
        queue_all_known(&mut s);
        assert_eq!((s.admit(), s.admit(), s.admit()), (Some(0), Some(1), None));
        s.done(0);
        assert_eq!(s.admit(), Some(2));
    }

    #[test]
    fn a_small_step_passes_a_large_one_that_does_not_fit() {
        let mut s = scheduler(4, 2, &[(1, &[]), (2, &[]), (1, &[])]);
        queue_all_known(&mut s);
        assert_eq!((s.admit(), s.admit(), s.admit()), (Some(0), Some(2), None));
        s.done(0);
        assert_eq!(s.admit(), None, "step 1 needs both processors");
        s.done(2);
        assert_eq!(s.admit(), Some(1));
    }

    #[test]
    fn memory_bounds_too() {
        let need = Resources { memory: 600, ..Resources::ONE_CPU };
        let capacity = Capacity { jobs: 4, cpus: 4, memory: 1000, gpus: 0 };
        let mut s = Scheduler::new(capacity, vec![need; 2], vec![BTreeSet::new(); 2]);
        queue_all_known(&mut s);
        assert_eq!((s.admit(), s.admit()), (Some(0), None));
    }

    #[test]
    fn a_failure_reaches_dependents_of_dependents_and_no_others() {
        let mut s = scheduler(4, 4, &[(1, &[]), (1, &[0]), (1, &[]), (1, &[1]), (1, &[2])]);
        queue_all_known(&mut s);
        s.end(0);
        assert_eq!(s.dependents(0), [1, 3]);
        assert_eq!(s.known(), None);
    }

    #[test]
    fn a_parked_step_is_looked_up_again() {
        let mut s = scheduler(4, 4, &[(1, &[]), (1, &[])]);
        s.queue(0);
        s.park(1);
        assert_eq!(s.known(), None);
        s.unpark(&[1]);
        assert_eq!(s.known(), Some(1));
    }

    #[test]
    fn a_step_that_is_being_kept_leaves_its_place_to_the_next_and_is_still_under_way() {
        let mut s = scheduler(1, 1, &[(1, &[]), (1, &[])]);
        queue_all_known(&mut s);
        assert_eq!((s.admit(), s.admit()), (Some(0), None));
        s.release(0);
        assert_eq!((s.admit(), s.under_way()), (Some(1), 2));
        s.done(0);
        s.done(1);
        assert_eq!(s.under_way(), 0);
    }

    #[test]
    fn a_slow_disk_holds_new_steps_up() {
        let steps = vec![(1, &[][..]); BACKLOG + 5];
        let mut s = scheduler(1, 1, &steps);
        queue_all_known(&mut s);
        let mut started = 0;
        while let Some(i) = s.admit() {
            s.release(i);
            started += 1;
        }
        assert_eq!(started, BACKLOG + 1);
    }
}
