(module
  (@dylink.0 (mem-info (memory 0 0)))
  (import "env" "__cpp_exception" (tag $exception (param i32)))
  (func (export "raise") (param i32)
    local.get 0
    throw $exception))
