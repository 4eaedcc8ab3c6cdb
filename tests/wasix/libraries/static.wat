;; A module, but no library.
(module (func (export "nothing")))
