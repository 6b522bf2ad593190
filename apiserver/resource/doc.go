// Package resource says what is particular about each kind of object: which
// fields are filled in when they are missing, what is refused, what clients may
// not set, and what `kubectl get` prints. One file per kind; everything that
// all kinds have in common (reading, writing, watching, deleting) is in package
// apiserver and knows no kind by name.
//
// The path of an object through its kind, on create and on update:
//
//	decoded body ─▶ Default ─▶ Prepare ─▶ (allocate) ─▶ Validate ─▶ stored
//	                  │           │           │             └ a list of errors, each with its field path
//	                  │           │           └ Services alone: Settle, then addresses and node ports
//	                  │           └ what the server decides: status, generation, …
//	                  └ what the client left out: protocol TCP, replicas 1, …
package resource
