// Package reconcile is the loop which every controller, the kubelet and the proxy run.
//
// A controller does not act on events. An event only says "something about default/web may have
// changed"; it puts the key default/web into a queue. A worker takes the key out, looks at the whole
// present state, and does what is missing. This has three consequences which make Kubernetes robust:
//
//   - ten events for one key which arrive together are one unit of work (the queue is a set);
//   - a lost or repeated event does no harm, because nothing is computed from the event itself;
//   - an error is answered by trying the key again, later and later: 5 ms, 10 ms, … 30 s.
//
// One key is never worked on by two workers at once; different keys are.
package reconcile
