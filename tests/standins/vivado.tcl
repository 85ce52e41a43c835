# A stand-in for Vivado, for tests: see README.md. Knows the commands, cells and pins that hwkit's scripts use; every
# other one is an error, and so are pins of the block design that are left open or driven twice.
#
# STANDIN_SLACK   slack of every path in ns; STANDIN_FAILS: a run that fails
source [file join [file dirname [file normalize [info script]]] common.tcl]

puts "****** stand-in for Vivado: not the vendor's tool, nothing is synthesised"
set ::standin::boards {xilinx.com:zcu104:part0:1.1}
set ::standin::versions {zynq_ultra_ps_e 3.5 axi_dma 7.1 smartconnect 1.0 proc_sys_reset 5.0}
array set ::standin::properties {}
array set ::standin::connected {}
set ::standin::cells [dict create]
set ::standin::files {}
set ::standin::repositories {}
set ::standin::wrapper 0
set ::standin::finished {}
set ::standin::opened 0
set ::standin::validated 0

# kind of a cell -> bus interfaces, pins, address segments
set ::standin::interfaces {
    zynq_ultra_ps_e {{M_AXI_HPM0_FPD S_AXI_HP0_FPD} {pl_clk0 pl_resetn0 maxihpm0_fpd_aclk saxihp0_fpd_aclk} {}}
    axi_dma {{S_AXI_LITE M_AXI_MM2S M_AXI_S2MM M_AXIS_MM2S S_AXIS_S2MM}
             {s_axi_lite_aclk m_axi_mm2s_aclk m_axi_s2mm_aclk axi_resetn} {S_AXI_LITE/Reg}}
    proc_sys_reset {{} {slowest_sync_clk ext_reset_in peripheral_aresetn} {}}
    dsode_top {{s_axi s_axis m_axis} {aclk aresetn} {s_axi/reg0}}
    smartconnect {{} {aclk aresetn} {}}
}

# ------------------------------------------------------------------ projects
proc create_project {args} {
    lassign [options create_project $args {-force} {-part}] found rest
    arguments create_project $rest 2
    if {![regexp {^x[a-z0-9]+-[a-z0-9-]+$} [dict get $found -part]]} { error "no part [dict get $found -part]" }
    lassign $rest ::standin::project ::standin::folder
    file mkdir $::standin::folder
    touch [file join $::standin::folder $::standin::project.xpr]
}
proc close_project {} { unset ::standin::project }
proc current_project {} { return project:$::standin::project }
proc current_fileset {} { return fileset:sources_1 }
proc add_files {args} {
    lassign [options add_files $args {-norecurse} {}] - rest
    arguments add_files $rest 1
    foreach path [lindex $rest 0] {
        if {![file exists $path]} { error "add_files: $path does not exist" }
        lappend ::standin::files $path
    }
}
proc get_files {name} {
    foreach path $::standin::files { if {[file tail $path] eq $name} { return file:$path } }
    error "get_files: no file $name"
}
proc update_compile_order {args} { options update_compile_order $args {} {-fileset} }
proc set_property {args} {
    if {[lindex $args 0] eq "-dict"} {
        lassign $args - pairs object
    } else {
        arguments set_property $args 3
        lassign $args key value object
        set pairs [list $key $value]
    }
    if {$object eq ""} { error "set_property: no object" }
    foreach {key value} $pairs {
        set ::standin::properties($object,[string toupper $key]) $value
        if {$key eq "ip_repo_paths"} { set ::standin::repositories [lindex $value 0] }
        if {$key eq "top" && [string match *_wrapper $value] && !$::standin::wrapper} { error "there is no module $value" }
    }
}
proc get_property {key object} {
    set key [string toupper $key]
    if {$key eq "VLNV"} { return $object }
    if {[info exists ::standin::properties($object,$key)]} { return $::standin::properties($object,$key) }
    error "get_property: $object has no $key"
}

# ------------------------------------------------------------------ packaging
namespace eval ipx {
    proc package_project {args} {
        lassign [::options ipx::package_project $args {-import_files -force} {-root_dir -vendor -library -taxonomy}] \
            found -
        set ::standin::root [dict get $found -root_dir]
        foreach path $::standin::files {
            ::touch [file join $::standin::root src [file tail $path]]
        }
        set ::standin::core [list [dict get $found -vendor] [dict get $found -library]]
    }
    proc current_core {} { return core:$::standin::core }
    proc get_bus_interfaces {args} {
        lassign [::options ipx::get_bus_interfaces $args {-quiet} {-of_objects}] - rest
        return [expr {[lindex $rest 0] in {s_axi s_axis m_axis} ? "bus:$rest" : ""}]
    }
    proc associate_bus_interfaces {args} {
        lassign [::options ipx::associate_bus_interfaces $args {} {-busif -clock -reset}] found rest
        ::arguments ipx::associate_bus_interfaces $rest 1
        if {[dict get $found -clock] ne "aclk"} { error "no clock [dict get $found -clock]" }
        foreach key {-busif -reset} {
            if {[dict exists $found $key]} { lappend ::standin::associated [dict get $found $key] }
        }
    }
    proc create_xgui_files {core} {}
    proc update_checksums {core} {}
    proc save_core {core} {
        if {[lsort $::standin::associated] ne {aresetn m_axis s_axi s_axis}} { error "clocks of $::standin::associated only" }
        set name $::standin::properties($core,NAME)
        set out [open [file join $::standin::root component.xml] w]
        puts $out "stand-in: [join $::standin::core :]:$name:$::standin::properties($core,VERSION)"
        close $out
    }
}

# ------------------------------------------------------------------ block design
proc update_ip_catalog {} {}
proc get_board_parts {args} {
    lassign [options get_board_parts $args {-quiet} {}] - rest
    return [lsearch -all -inline $::standin::boards [lindex $rest 0]]
}
proc get_ipdefs {args} {
    lassign [options get_ipdefs $args {-quiet} {}] - rest
    if {![regexp {^xilinx\.com:ip:(\w+):\*$} [lindex $rest 0] - name]} { error "get_ipdefs: $rest" }
    if {![dict exists $::standin::versions $name]} { return {} }
    return xilinx.com:ip:$name:[dict get $::standin::versions $name]
}
proc create_bd_design {name} { set ::standin::design $name }
proc create_bd_cell {args} {
    lassign [options create_bd_cell $args {} {-type -vlnv}] found rest
    arguments create_bd_cell $rest 1
    lassign [split [dict get $found -vlnv] :] vendor library kind version
    if {$vendor eq "xilinx.com"} {
        if {$version ne [dict get $::standin::versions $kind]} { error "there is no $kind of version $version" }
    } else {
        set stated [open [file join $::standin::repositories component.xml]]
        if {[string first [dict get $found -vlnv] [read $stated]] < 0} { error "no IP [dict get $found -vlnv]" }
        close $stated
    }
    dict set ::standin::cells [lindex $rest 0] $kind
    return /[lindex $rest 0]
}
proc apply_bd_automation {args} {
    lassign [options apply_bd_automation $args {} {-rule -config}] found rest
    if {[dict get $::standin::cells [string trimleft [lindex $rest 0] /]] ne [lindex [split [dict get $found -rule] :] end]} {
        error "the rule [dict get $found -rule] is not for $rest"
    }
}
proc of_cell {name} {
    set kind [dict get $::standin::cells $name]
    set found [dict get $::standin::interfaces $kind]
    if {$kind ne "smartconnect"} { return $found }
    set buses {}
    foreach {side count} {S NUM_SI M NUM_MI} {
        for {set i 0} {$i < $::standin::properties(/$name,CONFIG.$count)} {incr i} {
            lappend buses [format %s%02d_AXI $side $i]
        }
    }
    return [lreplace $found 0 0 $buses]
}
proc pin_of {path index} {
    lassign [split $path /] cell name
    if {![dict exists $::standin::cells $cell]} { error "no cell $cell" }
    if {$name ni [lindex [of_cell $cell] $index]} { error "$cell has no pin $name" }
    return $path
}
proc get_bd_pins {path} { return [pin_of $path 1] }
proc get_bd_intf_pins {path} { return [pin_of $path 0] }
proc is_clock {pin} { return [regexp -nocase {clk} $pin] }
proc connect_bd_net {from to} {
    if {[is_clock $from] != [is_clock $to]} { error "$from cannot drive $to" }
    if {[info exists ::standin::connected($to)]} { error "$to is driven twice" }
    set ::standin::connected($from) 1
    set ::standin::connected($to) $from
}
proc connect_bd_intf_net {from to} {
    foreach pin [list $from $to] {
        if {[info exists ::standin::connected($pin)]} { error "$pin is connected twice" }
    }
    set ::standin::connected($from) $to
    set ::standin::connected($to) $from
}
proc get_bd_addr_segs {pattern} {
    set found {}
    dict for {cell kind} $::standin::cells {
        foreach segment [lindex [of_cell $cell] 2] {
            if {[string match $pattern $cell/$segment]} { lappend found $cell/$segment }
        }
    }
    return $found
}
proc assign_bd_address {args} {
    lassign [options assign_bd_address $args {} {-offset -range}] found rest
    if {![llength $rest]} {
        foreach key {0xA0000000 0xA0010000} {
            if {![info exists ::standin::addresses($key)]} { error "assign_bd_address: nothing is at $key" }
        }
        return
    }
    if {[info exists ::standin::addresses([dict get $found -offset])]} { error "two segments at one address" }
    set ::standin::addresses([dict get $found -offset]) $rest
}
proc validate_bd_design {} {
    foreach cell [dict keys $::standin::cells] {
        foreach pin [concat [lindex [of_cell $cell] 0] [lindex [of_cell $cell] 1]] {
            if {![info exists ::standin::connected($cell/$pin)]} { error "validate_bd_design: $cell/$pin is not connected" }
        }
    }
    set ::standin::validated 1
}
proc save_bd_design {} {
    if {!$::standin::validated} { error "save_bd_design: not validated" }
    set path [file join $::standin::folder $::standin::project.srcs sources_1 bd $::standin::design $::standin::design.bd]
    touch $path
    lappend ::standin::files $path
}
proc make_wrapper {args} {
    options make_wrapper $args {-import -top} {-files -fileset}
    touch [file join $::standin::folder $::standin::project.gen sources_1 bd $::standin::design hw_handoff $::standin::design.hwh]
    set ::standin::wrapper 1
}

# ------------------------------------------------------------------ runs and reports
proc get_runs {name} { return run:$name }
proc launch_runs {args} {
    lassign [options launch_runs $args {} {-to_step -jobs}] found rest
    set run [lindex $rest 0]
    if {$run eq "impl_1" && "synth_1" ni $::standin::finished} { error "impl_1 before synth_1" }
    set fails [expr {[info exists ::env(STANDIN_FAILS)] && $::env(STANDIN_FAILS) eq $run}]
    set ::standin::properties(run:$run,PROGRESS) [expr {$fails ? "37%" : "100%"}]
    set ::standin::properties(run:$run,STATUS) [expr {$fails ? "$run ERROR" : "$run Complete!"}]
    lappend ::standin::finished $run
    if {[dict exists $found -to_step]} {
        touch [file join $::standin::folder $::standin::project.runs $run ${::standin::design}_wrapper.bit]
    }
}
proc wait_on_run {name} { if {$name ni $::standin::finished} { error "wait_on_run: $name was not launched" } }
proc open_run {name} { set ::standin::opened 1 }
proc report {name sample words} {
    if {!$::standin::opened} { error "$name: no design is open" }
    lassign [options $name $words {} {-file}] found -
    sample $sample [dict get $found -file]
}
proc report_utilization {args} { report report_utilization utilization.rpt $args }
proc report_timing_summary {args} { report report_timing_summary timing.rpt $args }
proc report_power {args} { report report_power power.rpt $args }
proc get_timing_paths {args} {
    lassign [options get_timing_paths $args {} {-delay_type -max_paths}] found -
    set slack [expr {[info exists ::env(STANDIN_SLACK)] ? $::env(STANDIN_SLACK) : 0.187}]
    set ::standin::properties(path:[dict get $found -delay_type],SLACK) $slack
    return path:[dict get $found -delay_type]
}
proc write_hw_platform {args} {
    lassign [options write_hw_platform $args {-fixed -include_bit -force} {-file}] found -
    touch [dict get $found -file]
}

# What follows -tclargs is the script's own.
set tclargs {}
set at [lsearch -exact $argv -tclargs]
if {$at >= 0} {
    set tclargs [lrange $argv $at+1 end]
    set argv [lrange $argv 0 $at-1]
}
lassign [options vivado $argv {-nojournal} {-mode -source -log}] found rest
arguments vivado $rest 0
if {[dict get $found -mode] ne "batch"} { error "only -mode batch" }
set argv $tclargs
set argc [llength $argv]
batch [dict get $found -source]
puts "INFO: \[Common 17-206\] Exiting the stand-in"
