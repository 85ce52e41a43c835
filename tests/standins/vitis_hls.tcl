# A stand-in for Vitis HLS, for tests: see README.md.
source [file join [file dirname [file normalize [info script]]] common.tcl]

puts "****** stand-in for Vitis HLS: not the vendor's tool, nothing is synthesised"
set ::standin::steps {}

proc after_step {command needed} {
    if {$needed ni $::standin::steps} { error "$command: $needed comes first" }
    lappend ::standin::steps $command
}

proc open_project {args} {
    lassign [options open_project $args {-reset} {}] - rest
    arguments open_project $rest 1
    set ::standin::project [file normalize [lindex $rest 0]]
    lappend ::standin::steps open_project
}
proc set_top {name} { after_step set_top open_project; set ::standin::top $name }
proc add_files {args} {
    after_step add_files open_project
    lassign [options add_files $args {-tb} {-cflags}] - rest
    arguments add_files $rest 1
    if {![file exists [lindex $rest 0]]} { error "add_files: [lindex $rest 0] does not exist" }
}
proc open_solution {args} {
    after_step open_solution add_files
    lassign [options open_solution $args {-reset} {-flow_target}] - rest
    arguments open_solution $rest 1
    set ::standin::solution [file join $::standin::project [lindex $rest 0]]
}
proc set_part {name} { after_step set_part open_solution; set ::standin::part $name }
proc create_clock {args} {
    after_step create_clock open_solution
    lassign [options create_clock $args {} {-period -name}] found -
    if {[dict get $found -period] <= 0} { error "create_clock: a period of [dict get $found -period]" }
}
proc csim_design {args} {
    after_step csim_design set_top
    lassign [options csim_design $args {} {-argv}] found -
    foreach path [lrange [dict get $found -argv] 0 0] {
        if {![file exists $path]} { error "csim_design: $path does not exist" }
    }
}
proc csynth_design {} {
    after_step csynth_design create_clock
    after_step csynth_design set_part
    sample ${::standin::top}_csynth.xml [file join $::standin::solution syn report ${::standin::top}_csynth.xml]
}
proc export_design {args} {
    after_step export_design csynth_design
    options export_design $args {} {-format -ipname -version}
    touch [file join $::standin::solution impl ip component.xml]
}

lassign [options vitis_hls $argv {} {-f}] found rest
arguments vitis_hls $rest 0
batch [dict get $found -f]
