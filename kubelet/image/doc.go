// Package image keeps container images on a node's disk, unpacked and ready to be mounted.
//
// An image is a list of layers and a configuration. A layer is a tar archive of the files which it
// adds, changes or removes. The store unpacks every layer once into a directory of its own; a
// container's root file system is then a single overlay mount with these directories as lower
// layers, so a hundred pods of one image share its files on disk and in the page cache:
//
//	IMAGE-ROOT/
//	  index.json            docker.io/library/busybox:latest → sha256:… (the name table)
//	  images/HEX.json       one image: configuration, layers from bottom to top, size; its time is the last use
//	  layers/HEX/           one unpacked layer, named by 32 hex digits of its diff ID
//	  layers/HEX.size       its size; without it, it counts as not there
//	  uses/CONTAINER        a mark: this container uses that image
//	  tmp/                  what is being unpacked; renamed into place when it is whole
//	  lock                  flock: one who changes any of this at a time
//
// All nodes of a lab share one image root, so several kubelets write here at once, and any of them may be
// killed at any moment. A directory in layers/ exists only when it is complete, because rename(2) puts it
// there in one step; a writer which loses the race throws its copy away.
//
// # Who may remove what
//
// Images without use are removed when the disk is full (Collect). These rules make that safe:
//
//  1. Everything is changed under the lock. It is held for milliseconds: unpacking and deleting are done
//     in tmp/ without it.
//  2. A container marks its image in the step which finds it (Use), before anything is mounted, and takes
//     the mark back when all is unmounted (Drop). Its kubelet notes it before the one and forgets it after the
//     other, so that the next kubelet finds the marks of one which was killed.
//  3. A mark counts while the container runs, for its shim holds a lock on it, whoever else was killed;
//     and for a day after its kubelet last said that there is such a container, running or not (Seen).
//     So a kubelet may be away for a while, and a node which never comes back keeps an image for a day.
//  4. The record goes first: without it an image is not there, and what names it leads nowhere. Then go the layers
//     that no record has, and last the names, for writing them needs room. What a killed collector left, the
//     next one finds: layers of no image, names of no image, and images without a name have no use, and go
//     whether the disk is full or not.
//  5. Whoever adds an image writes its record only while all of its layers are there, and unpacks once more
//     what has gone meanwhile. While somebody adds one, layers without an image stay: they may be his.
//  6. Who works in tmp/ holds a lock on his directory there. What nobody holds is left over.
//  7. Pinned images stay as long as they have a name. These are the ones which came from this machine and
//     not from a registry (Import, Load): once removed, nobody could bring them again.
//
// Deleted files: an archive marks them as ".wh.NAME", overlayfs as a character device 0:0 of that
// name; an archive marks a replaced directory as ".wh..wh..opq", overlayfs by the extended attribute
// trusted.overlay.opaque. Unpacking translates one into the other (OCI image layer specification).
package image
