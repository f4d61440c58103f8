//! What wit-bindgen makes of `wit/`, and nothing else.

wit_bindgen::generate!({
    path: ["../../wit/calls/deps/clocks.wit", "../../wit/calls/deps/http.wit", "wit"],
    world: "weir:middleware/middleware",
    generate_all,
});
