//! What wit-bindgen makes of `wit/`, and nothing else.

wit_bindgen::generate!({ path: "wit", world: "weir:middleware/middleware", generate_all });
