// Package auth answers two questions about every request: who are you, and may
// you do this?
//
// Who: a client certificate signed by the cluster's CA (common name = user,
// organizations = groups), or a ServiceAccount token, which is a signed
// statement "I am system:serviceaccount:default:web" that only holds while the
// account, and the pod it was made for, still exist.
//
// May: the node authorizer knows what a kubelet needs (its own Node, and the
// pods on it with their Secrets and ConfigMaps); RBAC knows what Roles were
// bound to whom. If neither says yes, the answer is 403.
package auth
