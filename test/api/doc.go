// Package api proves what needs several processes: three etcd members, two API
// servers, two controller managers and two schedulers, as they run on machines
// of their own, on ports of 127.0.0.1. Any of them may be killed at any time.
package api
