;; Two loops of the same shape: acquire and drop a lease, and call a bare host function that makes a resource and drop it.
;; Both imports are async functions, lowered asynchronously; both are ready at once.
(component
  (import "weir:flow/types@0.1.0-draft.2" (instance $types
    (type $duration-def u64)
    (export "duration" (type $duration (eq $duration-def)))
    (type $reason-def (enum "limited" "overloaded" "timed-out" "too-large" "denied" "conflict" "ended" "would-block" "invalid" "paused" "pushed-back" "lost" "unavailable"))
    (export "reason" (type $reason (eq $reason-def)))
    (type $kind-def (enum "concurrency" "rate" "closed" "waitlist" "cap" "paused" "draining" "pushed-back"))
    (export "constraint-kind" (type $kind (eq $kind-def)))
    (type $constraint-def (record
      (field "kind" $kind) (field "counter" string) (field "pattern" (option string)) (field "limit" u64)
      (field "used" u64) (field "frees-in" (option $duration)) (field "estimated" bool)))
    (export "constraint" (type $constraint (eq $constraint-def)))
    (type $refusal-def (record
      (field "reason" $reason) (field "retry-after" (option $duration)) (field "blocked-on" (list $constraint)) (field "message" string)))
    (export "refusal" (type $refusal (eq $refusal-def)))
    (export "lease" (type (sub resource)))
    (export "request-options" (type (sub resource)))
  ))
  (alias export $types "refusal" (type $refusal))
  (alias export $types "lease" (type $lease))
  (alias export $types "request-options" (type $request-options))
  (import "weir:flow/leases@0.1.0-draft.2" (instance $leases
    (alias outer 1 $refusal (type $refusal-outer))
    (alias outer 1 $lease (type $lease-outer))
    (alias outer 1 $request-options (type $options-outer))
    (export "refusal" (type $r (eq $refusal-outer)))
    (export "lease" (type $l (eq $lease-outer)))
    (export "request-options" (type $o (eq $options-outer)))
    (export "acquire" (func async
      (param "scope" (option string)) (param "limit-key" (option string)) (param "cost" u32) (param "more" (option (own $o)))
      (result (result (own $l) (error $r)))))
  ))
  (import "bench:bare/calls" (instance $bare
    (export "token" (type $token (sub resource)))
    (export "make" (func async (result (own $token))))
  ))
  (alias export $bare "token" (type $token))
  (alias export $leases "acquire" (func $acquire))
  (alias export $bare "make" (func $make))

  (core module $memory
    (memory (export "memory") 1)
    ;; Only a refusal would need memory, and none comes.
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable))
  (core instance $memory (instantiate $memory))
  (alias core export $memory "memory" (core memory $mem))
  (alias core export $memory "realloc" (core func $realloc))

  (core func $acquire-core (canon lower (func $acquire) async (memory $mem) (realloc $realloc)))
  (core func $make-core (canon lower (func $make) async (memory $mem)))
  (core func $drop-lease (canon resource.drop $lease))
  (core func $drop-token (canon resource.drop $token))

  (core module $code
    (import "env" "memory" (memory 1))
    (import "env" "acquire" (func $acquire (param i32 i32) (result i32)))
    (import "env" "make" (func $make (param i32) (result i32)))
    (import "env" "drop-lease" (func $drop-lease (param i32)))
    (import "env" "drop-token" (func $drop-token (param i32)))
    ;; The arguments lie at 0 (all `none`, the cost at 24), results at 64. 2 is `returned`.
    (func (export "flow") (param $n i32)
      (i32.store (i32.const 24) (i32.const 1))
      (loop $again
        (if (i32.ne (call $acquire (i32.const 0) (i32.const 64)) (i32.const 2)) (then unreachable))
        (if (i32.load8_u (i32.const 64)) (then unreachable))
        (call $drop-lease (i32.load (i32.const 72)))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br_if $again (local.get $n))))
    (func (export "bare") (param $n i32)
      (loop $again
        (if (i32.ne (call $make (i32.const 64)) (i32.const 2)) (then unreachable))
        (call $drop-token (i32.load (i32.const 64)))
        (local.set $n (i32.sub (local.get $n) (i32.const 1)))
        (br_if $again (local.get $n)))))
  (core instance $code (instantiate $code
    (with "env" (instance
      (export "memory" (memory $mem))
      (export "acquire" (func $acquire-core))
      (export "make" (func $make-core))
      (export "drop-lease" (func $drop-lease))
      (export "drop-token" (func $drop-token))))))

  (func (export "flow") (param "n" u32) (canon lift (core func $code "flow")))
  (func (export "bare") (param "n" u32) (canon lift (core func $code "bare")))
)
