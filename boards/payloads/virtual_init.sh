#!/bin/busybox sh
# First process of a virtual board, before and (as "init second") after its disk is the root.
# Standard busybox; its keys and what it is are in /hwkit, which hwkit handed over with the kernel.
B=/bin/busybox
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8

if [ "$1" != second ]; then
    $B mkdir -p /proc /sys /dev /disk
    $B mount -t proc proc /proc
    $B mount -t sysfs sys /sys
    $B mount -t devtmpfs dev /dev
    for module in /modules/*.ko; do $B insmod "$module" || echo "insmod $module failed"; done
    tries=0
    while [ ! -b /dev/vda ] && [ $tries -lt 200 ]; do $B usleep 20000; tries=$((tries + 1)); done
    $B mount -t ext4 -o rw,noatime /dev/vda /disk || { echo "hwkit-failed: the disk cannot be mounted"; exec $B sleep 1d; }
    $B chown 0:0 /disk && $B chmod 755 /disk           # sshd insists on it
    $B mount -t tmpfs -o mode=755 run /disk/run
    $B cp -r /hwkit /disk/run/hwkit
    $B cp /init /disk/run/hwkit/init
    $B umount /proc /sys
    $B mount --move /dev /disk/dev
    exec $B switch_root /disk /run/hwkit/init second
fi

$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
$B mkdir -p /dev/pts /dev/shm /run/sshd
$B mount -t devpts pts /dev/pts
$B mount -t tmpfs -o mode=1777 shm /dev/shm
$B hostname "$($B cat /run/hwkit/name)"
$B cp /run/hwkit/about.json /etc/hwkit-virtual
$B ip link set lo up
$B ip addr add 10.0.2.15/24 dev eth0
$B ip link set eth0 up
/usr/sbin/sshd || echo "hwkit-failed: sshd did not start"
echo "hwkit-ready"
[ -f /run/hwkit/rails.json ] && /usr/bin/python3 -S -P /run/hwkit/rails.py /run/hwkit/rails.json /run/virtual &
while :; do $B sleep 3600; done
