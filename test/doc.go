// Package test drives whole labs with real kubectl.
//
// Each file in testdata is a script in the form of testscript (see
// `go doc github.com/rogpeppe/go-internal/testscript`): commands, and what
// their output must match. Scripts in testdata/cluster run on one shared lab,
// once for each kubectl on the machine (the bundled one and those that lie
// beside the machine's kubectl); those in testdata/lab start and end labs of
// their own.
//
// Besides testscript's own commands there are:
//
//	eventually SECONDS CMD…   run a command until it succeeds
//	matches SECONDS REGEXP CMD…  run a command until its output matches
//	node NODE CMD…            run a command on a node of the shared lab
package test
