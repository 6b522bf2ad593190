// Package test drives whole labs with real kubectl.
//
// Each file in testdata is a script in the form of testscript (see
// `go doc github.com/rogpeppe/go-internal/testscript`): commands, and what
// their output must match. Scripts in testdata/cluster run on one shared lab,
// once for each kubectl on the machine (the bundled one and those that lie
// beside the machine's kubectl); those in testdata/network run there once, for
// they ask the kernel more than kubectl; those in testdata/lab start and end
// labs of their own. Scripts of a folder run at the same time: each has a
// namespace of its own, or names which no other has.
//
// Besides testscript's own commands there are:
//
//	eventually SECONDS CMD…   run a command until it succeeds
//	matches SECONDS REGEXP CMD…  run a command until its output matches
//	node NODE CMD…            run a command on a node of the script's lab
//	save NAME CMD…            keep what a command prints in a variable
package test
