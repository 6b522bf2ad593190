// Package apiserver serves the Kubernetes API: the only door to the cluster's
// state.
//
// # The life of a request
//
//	kubectl scale deployment web --replicas=3
//	  │ PATCH /apis/apps/v1/namespaces/default/deployments/web/scale
//	  ▼
//	ServeHTTP      server.go        catches panics, reads the path (request.go)
//	authenticate   authenticate.go  certificate or token ─▶ user and groups      401
//	authorize      authorize.go     node authorizer, RBAC                        403
//	route          server.go        kind and verb ─▶ handler                 404 405
//	patch          patch.go         current object + patch ─▶ wanted object  400 415
//	modify         update.go        keeps what is not the client's to change,
//	                                then, as package resource says of the kind:
//	                                Default, owners of the changed fields
//	                                (managers.go), admission (admission.go),
//	                                Prepare, Validate                        403 422
//	allocate       allocate.go      Services: ClusterIP and node ports
//	Modify         store/modify.go  compare-and-swap in an etcd transaction      409
//	respond        respond.go       JSON, YAML, protobuf; object, metadata, table;
//	               answer.go        compressed when it is long
//
// When etcd has confirmed the write, the copy in memory follows
// (store/order.go; other servers learn of it from their watch on etcd), and every
// client that watches Deployments gets a MODIFIED event (watch.go). That is how
// the controller manager learns of it: nobody is called, everybody watches.
//
// Reading is shorter: get and list (read.go) come from the copy in memory,
// after making sure that it is not behind.
//
// Some requests are not answered here at all: logs, shells and port forwards go
// on to the kubelet of the pod's node (kubelet.go), the subresource proxy to a
// pod or a Service (proxy.go). Each request leaves a line in the audit log
// (audit.go), and none holds more than its share (limit.go).
//
// Nothing here knows a kind by name unless the API itself treats it in its own
// way: namespaces are emptied before they go, pods get time to end, Services
// have addresses. What is particular about a kind's fields is in package
// resource.
package apiserver
