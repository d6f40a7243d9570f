//! Two machines at a time: half of what the tests take is one machine that waits for its own processor.

use std::{
    collections::BTreeMap,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
};

use crate::machine;

const WORKERS: usize = 2;

/// Does all jobs, until somebody ends xtask, and tells the results in the order of the jobs, each as soon as that
/// allows.
pub fn two_at_a_time<T: Sync, R: Send>(
    jobs: &[T],
    work: impl Fn(&T) -> R + Sync,
    mut tell: impl FnMut(&T, R),
) {
    let next = AtomicUsize::new(0);
    let take = || {
        let at = next.fetch_add(1, Ordering::Relaxed);
        jobs.get(at).filter(|_| machine::interrupted().is_none()).map(|job| (at, job))
    };
    let (results, incoming) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            let (results, take, work) = (results.clone(), &take, &work);
            scope.spawn(move || {
                while let Some((at, job)) = take() {
                    // The receiver lives until all senders are gone.
                    let _ = results.send((at, work(job)));
                }
            });
        }
        drop(results);
        let (mut early, mut due) = (BTreeMap::new(), 0);
        for (at, result) in incoming {
            early.insert(at, result);
            while let Some(result) = early.remove(&due) {
                tell(&jobs[due], result);
                due += 1;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn two_jobs_run_at_once_and_results_come_in_the_order_of_the_jobs() {
        // The first two wait for each other, and the first then for the third.
        let (both, late) = (Barrier::new(2), Barrier::new(2));
        let work = |job: &u32| {
            match job {
                0 => {
                    both.wait();
                    late.wait();
                }
                1 => drop(both.wait()),
                2 => drop(late.wait()),
                _ => {}
            }
            10 * job
        };
        let mut told = Vec::new();
        two_at_a_time(&[0, 1, 2, 3], work, |job, result| told.push((*job, result)));
        assert_eq!(told, [(0, 0), (1, 10), (2, 20), (3, 30)]);
    }
}
