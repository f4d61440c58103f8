//! What must hold in every order: `cargo test -p weir-loom`.

#[test]
fn no_timer_is_slept_past() {
    weir_loom::timer::no_timer_is_slept_past();
}

#[test]
fn no_wake_of_a_connection_is_lost() {
    weir_loom::wakes::no_wake_is_lost();
}
