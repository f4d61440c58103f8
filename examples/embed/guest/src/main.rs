//! A WASI 0.2 command: it waits its turn, works for a moment, and leaves.

use std::time::Duration;

fn main() -> Result<(), weir_guest::Refused> {
    weir_guest::sync::under("worker", || {
        println!("begins");
        std::thread::sleep(Duration::from_millis(50));
        println!("ends");
    })
}
