//! Which step is next: a pure state machine, without clock, threads or files.

use super::capacity::Capacity;
use crate::stage::Resources;
use std::collections::BTreeSet;

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
    /// Its outputs are known.
    Done,
    /// It failed, was cancelled or skipped.
    Ended,
}

/// The steps of a plan, in its order, and how far each is.
#[derive(Debug)]
pub(super) struct Scheduler {
    capacity: Capacity,
    needs: Vec<Resources>,
    upstream: Vec<BTreeSet<usize>>,
    states: Vec<State>,
}

impl Scheduler {
    /// `needs` as granted by the capacity; `upstream`: the steps whose outputs each step reads.
    pub(super) fn new(capacity: Capacity, needs: Vec<Resources>, upstream: Vec<BTreeSet<usize>>) -> Self {
        let states = vec![State::Waiting; needs.len()];
        Self { capacity, needs, upstream, states }
    }

    /// The first step that can be looked up: all its inputs are known.
    pub(super) fn known(&self) -> Option<usize> {
        let is_known = |&i: &usize| {
            self.states[i] == State::Waiting && self.upstream[i].iter().all(|&up| self.states[up] == State::Done)
        };
        (0..self.states.len()).find(is_known)
    }

    /// The first miss that fits beside what runs; it runs from now on.
    pub(super) fn admit(&mut self) -> Option<usize> {
        let running: Vec<Resources> = self.with(State::Running).map(|i| self.needs[i]).collect();
        if running.len() >= self.capacity.jobs {
            return None;
        }
        let fits = |need: Resources| {
            let cpus: u64 = running.iter().map(|r| u64::from(r.cpus)).sum();
            let memory = running.iter().fold(0_u64, |sum, r| sum.saturating_add(r.memory));
            let gpus: u64 = running.iter().map(|r| u64::from(r.gpus)).sum();
            cpus + u64::from(need.cpus) <= u64::from(self.capacity.cpus)
                && memory.saturating_add(need.memory) <= self.capacity.memory
                && gpus + u64::from(need.gpus) <= u64::from(self.capacity.gpus)
        };
        let next = self.with(State::Queued).find(|&i| fits(self.needs[i]))?;
        self.states[next] = State::Running;
        Some(next)
    }

    pub(super) fn queue(&mut self, step: usize) {
        self.states[step] = State::Queued;
    }

    pub(super) fn park(&mut self, step: usize) {
        self.states[step] = State::Parked;
    }

    /// Lets parked steps be looked up again.
    pub(super) fn unpark(&mut self, steps: &[usize]) {
        for &step in steps {
            if self.states[step] == State::Parked {
                self.states[step] = State::Waiting;
            }
        }
    }

    pub(super) fn done(&mut self, step: usize) {
        self.states[step] = State::Done;
    }

    pub(super) fn end(&mut self, step: usize) {
        self.states[step] = State::Ended;
    }

    pub(super) fn running(&self) -> usize {
        self.with(State::Running).count()
    }

    /// Steps that neither run nor have ended.
    pub(super) fn unsettled(&self) -> Vec<usize> {
        let open = |state| matches!(state, State::Waiting | State::Parked | State::Queued);
        (0..self.states.len()).filter(|&i| open(self.states[i])).collect()
    }

    /// Unsettled steps that need `step`, directly or not.
    pub(super) fn dependents(&self, step: usize) -> Vec<usize> {
        let mut reached = BTreeSet::from([step]);
        for i in 0..self.states.len() {
            if !self.upstream[i].is_disjoint(&reached) {
                reached.insert(i);
            }
        }
        self.unsettled().into_iter().filter(|i| *i != step && reached.contains(i)).collect()
    }

    fn with(&self, state: State) -> impl Iterator<Item = usize> + '_ {
        (0..self.states.len()).filter(move |&i| self.states[i] == state)
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
}
