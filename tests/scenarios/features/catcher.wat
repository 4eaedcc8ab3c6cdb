;; Catches what another module throws, through a call that is bound when it is first made.
(module
  (@dylink.0 (mem-info (memory 0 0)))
  (import "env" "__cpp_exception" (tag $exception (param i32)))
  (import "env" "raise" (func $raise (param i32)))
  (func (export "catching") (param i32) (result i32)
    (block $caught (result i32)
      (try_table (catch $exception $caught)
        local.get 0
        call $raise)
      i32.const -1)
    i32.const 1
    i32.add)
  (func (export "throwing") (param i32)
    local.get 0
    call $raise))
