//! The runner and `weir:flow`, in process, with real guests.
//!
//! Each module tests the guest of its name; the others are about what the guest `flow` asks for. Nearly every test ends with
//! `settles`: whatever a guest did, no capacity is lost.

mod attribution;
mod blocking;
mod bounds;
mod calls;
mod client;
mod client_sync;
mod compose;
mod egress;
mod flow;
mod flow_control;
mod hostile;
mod instances;
mod lease_server;
mod no_handler;
mod options;
mod order;
mod outcome;
mod settle;
mod stopping;
mod stranger;
mod stream;
mod sync;

use weir_engine::{Durability, Engine, EngineConfig, StoreConfig};
use weir_tests::Host;

/// A guest without a module of its name does not compile.
macro_rules! tested {
    ($guest:ident) => {
        use crate::$guest as _;
    };
}

#[allow(unused_imports, reason = "only the names matter")]
mod every_guest_is_tested {
    weir_tests::foreach_guest!(tested);
}

/// A host that keeps what must survive, in a directory that goes with the test.
pub(crate) fn keeping() -> (tempfile::TempDir, Host) {
    let directory = tempfile::tempdir().expect("a directory");
    let store = StoreConfig { directory: directory.path().to_owned(), durability: Durability::default() };
    let flow = Engine::open(EngineConfig::default(), &store).expect("an empty directory");
    (directory, Host { flow })
}
