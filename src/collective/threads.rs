//! Ranks that are threads of one process: the collective that tests need no MPI for.

use super::Collective;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

/// One rank, with a channel to and from each.
struct Thread {
    rank: usize,
    to: Vec<Sender<Vec<u8>>>,
    from: Vec<Mutex<Receiver<Vec<u8>>>>,
}

/// Runs `work` on so many ranks at once; gives what each of them made.
pub fn with_ranks<T: Send>(world: usize, work: impl Fn(&dyn Collective) -> T + Sync) -> Vec<T> {
    let mut ranks: Vec<Thread> = (0..world).map(|rank| Thread { rank, to: Vec::new(), from: Vec::new() }).collect();
    for from in 0..world {
        for to in 0..world {
            let (sender, receiver) = channel();
            ranks[from].to.push(sender);
            ranks[to].from.push(Mutex::new(receiver));
        }
    }
    std::thread::scope(|scope| {
        let ranks: Vec<_> = ranks
            .into_iter()
            .map(|rank| {
                let work = &work;
                scope.spawn(move || work(&rank))
            })
            .collect();
        ranks.into_iter().map(|rank| rank.join().expect("no rank panics")).collect()
    })
}

impl Thread {
    fn send(&self, to: usize, bytes: Vec<u8>) {
        self.to[to].send(bytes).expect("nobody leaves before the others");
    }

    fn receive(&self, from: usize) -> Vec<u8> {
        self.from[from].lock().expect("one thread alone").recv().expect("nobody leaves before the others")
    }

    fn receive_numbers(&self, receive: &mut [f32]) {
        let received: Vec<u8> = (0..self.world()).flat_map(|from| self.receive(from)).collect();
        assert_eq!(received.len(), 4 * receive.len(), "all ranks make the same call");
        let numbers = received.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes")));
        receive.iter_mut().zip(numbers).for_each(|(to, number)| *to = number);
    }
}

fn bytes_of(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
}

impl Collective for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.to.len()
    }

    fn all_to_all(&self, send: &[f32], receive: &mut [f32]) {
        let part = send.len() / self.world();
        (0..self.world()).for_each(|to| self.send(to, bytes_of(&send[to * part..][..part])));
        self.receive_numbers(receive);
    }

    fn all_gather(&self, send: &[f32], receive: &mut [f32]) {
        (0..self.world()).for_each(|to| self.send(to, bytes_of(send)));
        self.receive_numbers(receive);
    }

    fn broadcast(&self, bytes: &mut [u8]) {
        if self.rank == 0 {
            (0..self.world()).for_each(|to| self.send(to, bytes.to_vec()));
        }
        bytes.copy_from_slice(&self.receive(0));
    }

    fn abort(&self) -> ! {
        panic!("rank {} ends all", self.rank)
    }
}
