//! The timer thread beside those who set timers, as in `host/engine/src/timer.rs` and `cell.rs`.

use crate::every_order;
use crate::sleep::{Due, Sleep};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

const NEVER: u64 = u64::MAX;

/// A shard: whether it has a timer, and what the thread sees of that without the lock.
struct Shard {
    timer: Mutex<bool>,
    due: Due,
}

struct Shared {
    shards: Vec<Shard>,
    sleep: Sleep,
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Shared {
    /// Sets a timer that is due at once.
    fn set(&self, shard: usize) {
        let shard = &self.shards[shard];
        {
            let mut timer = shard.timer.lock().unwrap();
            *timer = true;
            shard.due.set(1);
        }
        if self.sleep.is_past(1) {
            *self.woken.lock().unwrap() = true;
            self.changed.notify_one();
        }
    }

    /// Takes what is due, and answers how many there were.
    fn tick(&self) -> usize {
        let mut taken = 0;
        for shard in &self.shards {
            if shard.due.get() == NEVER {
                continue;
            }
            let mut timer = shard.timer.lock().unwrap();
            taken += usize::from(std::mem::take(&mut *timer));
            shard.due.set(NEVER);
        }
        taken
    }

    /// The thread, until it has taken so many.
    fn run(&self, mut left: usize) {
        loop {
            self.sleep.end();
            left -= self.tick();
            if left == 0 {
                return;
            }
            self.sleep.begin(NEVER);
            if self.shards.iter().any(|shard| shard.due.get() != NEVER) {
                continue;
            }
            let mut woken = self.woken.lock().unwrap();
            while !*woken {
                woken = self.changed.wait(woken).unwrap();
            }
            *woken = false;
        }
    }
}

/// One thread sets a timer, or each of two in a shard of its own: the thread that sleeps takes every one of them.
pub fn no_timer_is_slept_past() {
    for shards in [1, 2] {
        every_order(3, move || {
            let shard = |_| Shard { timer: Mutex::new(false), due: Due::new(NEVER) };
            let shared = Arc::new(Shared {
                shards: (0..shards).map(shard).collect(),
                sleep: Sleep::new(),
                woken: Mutex::new(false),
                changed: Condvar::new(),
            });
            let other = Arc::clone(&shared);
            let setter = thread::spawn(move || other.set(0));
            if shards == 2 {
                let other = Arc::clone(&shared);
                thread::spawn(move || other.set(1));
            }
            shared.run(shards);
            setter.join().unwrap();
        });
    }
}
