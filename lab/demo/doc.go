// Package demo tells, on a running lab, how a pod reaches a Service by name.
//
// Nothing in it is played: each step runs real commands (shown with a "$"),
// prints what the machine answers, and checks that it is as told. A step which
// is not ends the demo with an error. story.go is the story; shell.go runs
// what it shows; rules.go reads iptables-save and conntrack.
package demo
