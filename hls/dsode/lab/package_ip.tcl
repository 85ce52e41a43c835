# Packages the engine as an IP: AXI-Lite for control and tables, one AXI4-Stream in, one out, all on aclk.
# Not run with vendor tools: written after their documentation and after scripts that are known to run.
#
#     vivado -mode batch -source package_ip.tcl
#
# Reads ../../rtl, writes ip/component.xml and what belongs to it.

set here [file dirname [file normalize [info script]]]
set rtl [file normalize [file join $here .. .. rtl]]
set sources {@SOURCES@}
set top @TOP@

proc fail {why} {
    puts "ERROR: $why"
    exit 1
}

set files {}
foreach name $sources {
    set path [file join $rtl $name]
    if {![file exists $path]} { fail "$path is missing: copy the folder rtl together with lab" }
    lappend files $path
}

create_project -force package [file join $here package] -part @PART@
add_files -norecurse $files
# The top module is plain Verilog; as such every version takes it as the top of an IP.
set_property file_type {Verilog} [get_files $top.sv]
set_property top $top [current_fileset]
update_compile_order -fileset sources_1

ipx::package_project -root_dir [file join $here ip] -vendor hwkit -library dsode -taxonomy /UserIP \
    -import_files -force
set core [ipx::current_core]
set_property name $top $core
set_property version 1.0 $core
set_property display_name {On-chip neural-ODE engine} $core
set_property description {Runs the layers of one network, design digest @DIGEST@} $core
foreach interface {s_axi s_axis m_axis} {
    if {![llength [ipx::get_bus_interfaces -quiet $interface -of_objects $core]]} {
        fail "the packager did not find the bus interface $interface of $top"
    }
    ipx::associate_bus_interfaces -busif $interface -clock aclk $core
}
ipx::associate_bus_interfaces -clock aclk -reset aresetn $core
# The clock's frequency is the block design's to choose.
set_property ipi_drc {ignore_freq_hz true} $core
set_property core_revision 1 $core
ipx::create_xgui_files $core
ipx::update_checksums $core
ipx::save_core $core
close_project
puts "the IP hwkit:dsode:$top:1.0 is in [file join $here ip]"
