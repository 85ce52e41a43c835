# From the packaged IP to a bitstream: a Zynq UltraScale+ processor, one AXI DMA and the engine, at @CLOCK_MHZ@ MHz.
# Not run with vendor tools: written after their documentation and after scripts that are known to run.
#
#     vivado -mode batch -source build.tcl [-tclargs BOARD_PART]
#
# BOARD_PART is as get_board_parts lists it. Its preset sets up the processor; without one the processor keeps the
# tool's defaults, which is enough where a system that is booted already loads the bitstream (PYNQ does).
# Writes reports/utilization.rpt, reports/timing.rpt and reports/power.rpt; then, where timing is met, design.bit,
# design.hwh and design.xsa. Where it is not met it says so and fails.

set here [file dirname [file normalize [info script]]]
set part @PART@
set board_part {@BOARD_PART@}
if {$argc > 0} { set board_part [lindex $argv 0] }
set clock_mhz @CLOCK_MHZ@
set stream_bits @BITS@
set memory_bits @MEMORY_BITS@
set top @TOP@
set project [file join $here project]
set reports [file join $here reports]
set jobs 4

proc fail {why} {
    puts "ERROR: $why"
    exit 1
}

if {![file exists [file join $here ip component.xml]]} {
    fail "there is no ip/component.xml: run package_ip.tcl first"
}
# What an earlier build left must not be taken for this one's.
file delete -force $reports [file join $here design.bit] [file join $here design.hwh] [file join $here design.xsa]
file mkdir $reports

# The newest version of an IP that this installation has.
proc newest {name} {
    set found [get_ipdefs -quiet "xilinx.com:ip:$name:*"]
    if {![llength $found]} { fail "this Vivado has no IP $name" }
    return [lindex [lsort -dictionary [get_property VLNV $found]] end]
}

proc cell {name vlnv {parameters {}}} {
    set made [create_bd_cell -type ip -vlnv $vlnv $name]
    if {[llength $parameters]} { configure $made $parameters }
    return $made
}

proc configure {made parameters} {
    set given {}
    foreach {key value} $parameters { lappend given CONFIG.$key $value }
    set_property -dict $given $made
}

proc pins {from args} {
    foreach to $args { connect_bd_net [get_bd_pins $from] [get_bd_pins $to] }
}

proc bus {from to} {
    connect_bd_intf_net [get_bd_intf_pins $from] [get_bd_intf_pins $to]
}

create_project -force dsode $project -part $part
if {$board_part ne ""} {
    if {![llength [get_board_parts -quiet $board_part]]} {
        fail "this Vivado has no board $board_part: install its board files, or give none"
    }
    set_property board_part $board_part [current_project]
}
set_property ip_repo_paths [list [file join $here ip]] [current_project]
update_ip_catalog

# ------------------------------------------------------------------ block design
create_bd_design design
set ps [cell ps [newest zynq_ultra_ps_e]]
if {$board_part ne ""} {
    apply_bd_automation -rule xilinx.com:bd_rule:zynq_ultra_ps_e -config {apply_board_preset "1"} $ps
}
# GP0: the processor's way to the registers; GP2: the DMA's way to memory, port HP0.
configure $ps {
    PSU__USE__M_AXI_GP0 1 PSU__USE__M_AXI_GP1 0 PSU__USE__M_AXI_GP2 0
    PSU__USE__S_AXI_GP2 1 PSU__SAXIGP2__DATA_WIDTH 128 PSU__FPGA_PL0_ENABLE 1
}
# The clock comes from dividers, so what is reached may be a little less than what is asked for.
set_property -dict [list CONFIG.PSU__CRL_APB__PL0_REF_CTRL__FREQMHZ $clock_mhz] $ps

cell engine hwkit:dsode:$top:1.0
# Version 7.1 is the one that PYNQ's driver binds to.
set widths [list c_m_axi_mm2s_data_width $memory_bits c_m_axis_mm2s_tdata_width $stream_bits \
    c_m_axi_s2mm_data_width $memory_bits c_s_axis_s2mm_tdata_width $stream_bits]
set dma [cell dma xilinx.com:ip:axi_dma:7.1 [list c_include_sg 0 c_include_mm2s 1 c_include_s2mm 1 \
    c_sg_length_width 26 c_addr_width 40 c_mm2s_burst_size 16 c_s2mm_burst_size 16 {*}$widths]]
# The DMA changes a width without a word where another one does not allow it; then data would be lost.
foreach {key value} $widths {
    set taken [get_property CONFIG.$key $dma]
    if {$taken != $value} { fail "the DMA's $key was set to $value and is $taken" }
}
cell control [newest smartconnect] {NUM_SI 1 NUM_MI 2}
cell memory [newest smartconnect] {NUM_SI 2 NUM_MI 1}
cell reset [newest proc_sys_reset]

bus ps/M_AXI_HPM0_FPD control/S00_AXI
bus control/M00_AXI engine/s_axi
bus control/M01_AXI dma/S_AXI_LITE
bus dma/M_AXI_MM2S memory/S00_AXI
bus dma/M_AXI_S2MM memory/S01_AXI
bus memory/M00_AXI ps/S_AXI_HP0_FPD
bus dma/M_AXIS_MM2S engine/s_axis
bus engine/m_axis dma/S_AXIS_S2MM
pins ps/pl_clk0 ps/maxihpm0_fpd_aclk ps/saxihp0_fpd_aclk reset/slowest_sync_clk engine/aclk control/aclk \
    memory/aclk dma/s_axi_lite_aclk dma/m_axi_mm2s_aclk dma/m_axi_s2mm_aclk
pins ps/pl_resetn0 reset/ext_reset_in
pins reset/peripheral_aresetn engine/aresetn dma/axi_resetn control/aresetn memory/aresetn

# ------------------------------------------------------------------ address map
foreach {offset segments} {0xA0000000 engine/s_axi/* 0xA0010000 dma/S_AXI_LITE/*} {
    set segment [get_bd_addr_segs $segments]
    if {[llength $segment] != 1} { fail "$segments names [llength $segment] address segments, not one" }
    assign_bd_address -offset $offset -range 64K $segment
}
assign_bd_address
validate_bd_design
save_bd_design

# ------------------------------------------------------------------ synthesis, placement, routing
make_wrapper -files [get_files design.bd] -import -fileset sources_1 -top
set_property top design_wrapper [current_fileset]
update_compile_order -fileset sources_1
foreach {run step} {synth_1 {} impl_1 {-to_step write_bitstream}} {
    launch_runs $run {*}$step -jobs $jobs
    wait_on_run $run
    if {[get_property PROGRESS [get_runs $run]] ne "100%"} {
        fail "$run failed: [get_property STATUS [get_runs $run]]; its log is [file join $project dsode.runs $run]"
    }
}

open_run impl_1
report_utilization -file [file join $reports utilization.rpt]
report_timing_summary -file [file join $reports timing.rpt]
report_power -file [file join $reports power.rpt]

foreach {what delay} {setup max hold min} {
    set slack [get_property SLACK [get_timing_paths -delay_type $delay -max_paths 1]]
    if {$slack eq ""} { fail "no path was timed for $what: the design has no clock" }
    if {$slack < 0} {
        fail "timing is not met: $what slack $slack ns at $clock_mhz MHz; see reports/timing.rpt and lower the clock"
    }
}

# ------------------------------------------------------------------ what the board takes
file copy -force [file join $project dsode.runs impl_1 design_wrapper.bit] [file join $here design.bit]
set handoff [glob -nocomplain [file join $project dsode.gen sources_1 bd design hw_handoff design.hwh] \
    [file join $project dsode.srcs sources_1 bd design hw_handoff design.hwh]]
if {![llength $handoff]} { fail "there is no design.hwh; take it out of the .xsa of this project" }
file copy -force [lindex $handoff 0] [file join $here design.hwh]
write_hw_platform -fixed -include_bit -force -file [file join $here design.xsa]
puts "timing is met: design.bit, design.hwh and design.xsa are in $here"
