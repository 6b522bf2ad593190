// Package image keeps container images on a node's disk, unpacked and ready to be mounted.
//
// An image is a list of layers and a configuration. A layer is a tar archive of the files which it
// adds, changes or removes. The store unpacks every layer once into a directory of its own; a
// container's root file system is then a single overlay mount with these directories as lower
// layers, so a hundred pods of one image share its files on disk and in the page cache:
//
//	IMAGE-ROOT/
//	  index.json            docker.io/library/busybox:latest → sha256:… (the name table)
//	  images/HEX.json       one image: configuration, layers from bottom to top, size
//	  layers/HEX/           one unpacked layer, named by 32 hex digits of its diff ID
//	  tmp/                  what is being unpacked; renamed into place when it is whole
//	  lock                  flock: one writer of index.json at a time
//
// All nodes of a lab share one image root, so several kubelets write here at once. A directory in
// layers/ exists only when it is complete, because rename(2) puts it there in one step; a writer
// which loses the race throws its copy away. Names change under the lock.
//
// Deleted files: an archive marks them as ".wh.NAME", overlayfs as a character device 0:0 of that
// name; an archive marks a replaced directory as ".wh..wh..opq", overlayfs by the extended attribute
// trusted.overlay.opaque. Unpacking translates one into the other (OCI image layer specification).
package image
