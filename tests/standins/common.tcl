# What the stand-ins share: options, and commands that hwkit's scripts may not use.

# State is kept apart from the variables of the scripts that run here.
namespace eval standin {}
set ::standin::standins [file dirname [file normalize [info script]]]
set ::standin::samples [file normalize [file join $::standin::standins .. eda reports]]

# Splits `words` into options and the rest: `flags` stand alone, `valued` take a word; others are errors.
proc options {command words flags valued} {
    set found [dict create]
    set rest {}
    for {set i 0} {$i < [llength $words]} {incr i} {
        set word [lindex $words $i]
        if {$word in $flags} {
            dict set found $word 1
        } elseif {$word in $valued} {
            incr i
            if {$i >= [llength $words]} { error "$command: $word needs a value" }
            dict set found $word [lindex $words $i]
        } elseif {[string match -* $word] && ![string is double -strict $word]} {
            error "$command: unknown option $word"
        } else {
            lappend rest $word
        }
    }
    return [list $found $rest]
}

proc arguments {command rest count} {
    if {[llength $rest] != $count} { error "$command: [llength $rest] arguments, $count are needed: $rest" }
}

proc sample {name path} {
    set from [open [file join $::standin::samples $name]]
    set text [read $from]
    close $from
    file mkdir [file dirname $path]
    set to [open $path w]
    puts -nonewline $to $text
    close $to
}

proc touch {path} {
    file mkdir [file dirname $path]
    close [open $path w]
}

# Runs a script as the tool would: an error is printed with its place, and ends it with code 1.
proc batch {script} {
    if {[catch {uplevel #0 [list source $script]} why]} {
        puts "ERROR: $why"
        puts [join [lrange [split $::errorInfo \n] 1 end] \n]
        exit 1
    }
}
