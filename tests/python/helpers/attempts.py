"""The attempts of the extension `fugitive`: the layers without which they succeed, and their errors.

The errors hold for all users and systems: what is not permitted is missing where there are
namespaces, and refused where there are none.
"""

from __future__ import annotations

from typing import NamedTuple

# The layers, in the order of piso_layer.
PRIVILEGES, FILES, NETWORK, SIGNALS, CALLS, NAMESPACES, LIMITS = range(7)
OTHER = (PRIVILEGES, FILES, NETWORK, SIGNALS, CALLS, NAMESPACES)
EVERYTHING = None
"""The whole sandbox, with what the host does before it starts an extension."""
NOTHING = ()
"""It never succeeds: kernels are built without it, containers lack it, or no test can have what it
needs."""

DENIED = frozenset({"EACCES", "EPERM"})
HIDDEN = DENIED | {"ENOENT", "ENOTDIR", "EROFS", "EXDEV", "ENOTSUP"}
NAMED = DENIED | {"ENOENT", "EINVAL", "ENOSYS"}
UNKNOWN = frozenset({"ENOSYS"})
FAMILY = frozenset({"EAFNOSUPPORT"})
KIND = frozenset({"ESOCKTNOSUPPORT"})
OPTION = frozenset({"ENOPROTOOPT"})
TERMINAL = frozenset({"ENOTTY", "EINVAL"})
OTHERS = frozenset({"ESRCH"})
FLAGS = frozenset({"EINVAL"})
FLAGS_OF_FILES = HIDDEN | {"ENOTTY"}
NO_STRUCTURE = HIDDEN | UNKNOWN
EMPTY = HIDDEN | {"EAGAIN"}


class Attempt(NamedTuple):
    name: str
    omitted: tuple[int, ...] | None
    """The layers that must be left out for it to succeed."""
    refused: frozenset[str]


def attempts(omitted: tuple[int, ...] | None, refused: frozenset[str], text: str) -> list[Attempt]:
    return [Attempt(name, omitted, refused) for name in text.split()]


TABLE = [
    *attempts(
        (FILES, NAMESPACES),
        DENIED,
        """
        list_folders_of_all read_by_a_program_in_memory load_a_library_of_the_host
        run_a_program_by_the_loader run_a_script_of_the_host read_temporary_files
        read_symbols_of_the_kernel read_command_of_the_kernel read_configuration_of_the_kernel
        read_keys_of_the_kernel read_timers read_interrupts read_addresses_of_memory read_partitions
        read_locks read_disks read_swap list_devices
        """,
    ),
    *attempts(
        (FILES, NAMESPACES),
        HIDDEN,
        """
        list_connections_of_the_host list_local_sockets_of_the_host list_connections_by_a_thread
        list_connections_beside_a_path list_the_folder_of_a_sibling
        read_from_the_folder_of_a_sibling write_to_the_folder_of_a_sibling list_environments
        read_from_another_environment change_another_environment lock_another_environment
        remove_shared_memory list_names_of_shared_memory fill_shared_memory_of_all read_in_a_thread
        read_while_a_link_changes read_while_a_folder_changes move_out_by_dots
        run_a_program_by_its_descriptor read_env_of_the_project read_git_config_of_the_project
        read_hidden_token_of_the_project read_certs_key_pem_of_the_project
        read_certs__hidden_x_of_the_project read_settings_json_of_the_project
        read_instance_app_db_of_the_project read_uploads_photo_of_the_project
        read_notes_of_the_project change_a_module_of_the_project plant_bytecode_in_the_project
        plant_a_module_in_the_project exchange_a_file plant_a_hard_link plant_a_link
        plant_a_file_without_a_name truncate_while_opening truncate_what_it_can_read
        truncate_without_reading make_while_opening move_a_folder_of_the_host
        lock_a_file_of_the_host change_the_systems_programs plant_a_package read_shadow read_group
        read_fstab read_hostname read_hosts read_machine_id read_ssh_host read_environment read_logs
        read_spool read_libraries_of_dpkg read_runtime read_boot read_srv read_mnt
        read_system_v_memory read_pressure read_name_of_the_host read_seed_of_the_kernel
        read_firmware read_tracing read_debugging read_block_devices read_network_devices
        read_modules write_to_printing write_to_caches write_to_overcommit write_to_random_numbers
        write_to_next_number write_to_forwarding write_to_own_users write_to_power
        write_to_huge_pages open_kvm open_loop_control open_loop0 open_net_tun open_vsock open_tty0
        open_console open_hwrng open_cpu_dma_latency open_userfaultfd open_autofs
        leave_its_control_group run_a_program_when_a_group_is_empty look_into_clear_refs_of_the_host
        look_into_limits_of_the_host look_into_mountinfo_of_the_host look_into_net_unix_of_the_host
        look_into_stat_of_the_host look_into_status_of_the_host look_into_task_of_the_host
        look_into_wchan_of_the_host look_into_cgroup_of_the_host look_into_cmdline_of_the_host
        look_into_comm_of_the_host look_into_sched_of_the_host look_into_cmdline_of_a_sibling
        write_to_clear_refs_of_the_host write_to_comm_of_the_host
        write_to_coredump_filter_of_the_host write_to_oom_score_adj_of_the_host
        write_to_timerslack_ns_of_the_host write_to_autogroup_of_the_host
        """,
    ),
    *attempts(
        (FILES, NAMESPACES),
        NAMED,
        """
        open_by_structure open_out_of_a_root
        """,
    ),
    *attempts(
        (FILES, NAMESPACES),
        NO_STRUCTURE,
        """
        truncate_by_structure
        """,
    ),
    *attempts(
        (CALLS,),
        DENIED,
        """
        call_as_a_program_of_32_bits use_multipath_tcp listen_to_devices listen_to_the_audit
        list_sockets_of_others change_the_firewall listen_to_processes listen_without_an_address
        """,
    ),
    *attempts(
        (CALLS,),
        FAMILY,
        """
        make_a_socket_of_amateur_radio make_a_socket_of_appletalk make_a_socket_of_x25
        make_a_socket_of_netrom make_a_socket_of_rose make_a_socket_of_decnet
        make_a_socket_of_keys_of_ipsec make_a_socket_of_rds make_a_socket_of_pppox
        make_a_socket_of_llc make_a_socket_of_infiniband make_a_socket_of_mpls make_a_socket_of_can
        make_a_socket_of_tipc make_a_socket_of_bluetooth make_a_socket_of_iucv
        make_a_socket_of_rxrpc make_a_socket_of_phonet make_a_socket_of_radio make_a_socket_of_caif
        make_a_socket_of_nfc make_a_socket_of_multiplexor make_a_socket_of_qualcomm
        make_a_socket_of_smc make_a_socket_of_express_data_path make_a_socket_of_mctp
        """,
    ),
    *attempts(
        (CALLS,),
        FLAGS,
        """
        stop_counting_events
        """,
    ),
    *attempts(
        (CALLS,),
        NAMED,
        """
        make_a_namespace_of_everything
        """,
    ),
    *attempts(
        (CALLS,),
        OPTION,
        """
        run_bpf_on_packets choose_a_receiver_by_bpf choose_a_receiver_by_a_program
        """,
    ),
    *attempts(
        (CALLS,),
        OTHERS,
        """
        slow_a_sibling_down limit_another_for_good
        """,
    ),
    *attempts(
        (CALLS,),
        TERMINAL,
        """
        take_over_the_console change_the_speed_of_a_line put_into_the_foreground hang_up
        resize_the_terminal lock_a_pseudo_terminal open_the_other_end_of_a_terminal
        make_a_terminal_exclusive drain_a_terminal map_the_keyboard set_the_mode_of_the_console
        switch_the_console program_a_function_key freeze_a_file_system trim_a_file_system
        encrypt_a_folder add_a_key_of_a_file_system protect_a_file_by_hashes make_a_volume
        write_to_a_disk_below find_blocks_of_a_file find_the_owner_of_a_namespace
        find_the_user_of_a_namespace make_a_network_interface make_a_virtual_machine
        attach_a_disk_to_a_file send_a_scsi_command listen_to_calls_of_others route_packets
        bridge_packets be_signalled_by_a_socket list_interfaces
        """,
    ),
    *attempts(
        (FILES, NAMESPACES),
        HIDDEN,
        """
        leave_by_a_folder_that_it_holds
        """,
    ),
    *attempts(
        (SIGNALS,),
        DENIED,
        """
        signal_by_a_descriptor_that_it_holds
        """,
    ),
    *attempts(
        (CALLS,),
        TERMINAL,
        """
        ask_a_descriptor_that_it_holds
        """,
    ),
    *attempts(
        OTHER,
        UNKNOWN,
        """
        take_by_a_descriptor_that_it_holds join_by_a_descriptor_that_it_holds
        """,
    ),
    *attempts(
        NOTHING,
        EMPTY,
        """
        get_descriptors_by_the_sockets_that_it_holds
        """,
    ),
    *attempts(
        (CALLS,),
        UNKNOWN,
        """
        set_a_quota set_a_quota_by_descriptor set_a_clock adjust_a_clock mark_a_file_system
        set_a_file_system_up clone_a_mount_with_attributes see_a_mount choose_a_security_module
        request_a_key submit_requests end_requests set_the_time adjust_the_time find_out_a_handle
        set_attributes_of_a_file_system advise_on_memory_of_another reap_memory_of_another
        trace_a_child start_in_a_foreign_group
        """,
    ),
    *attempts(
        (CALLS, NAMESPACES),
        DENIED,
        """
        open_by_first_data send_by_udp_connected
        """,
    ),
    *attempts(
        (CALLS, NAMESPACES),
        FLAGS_OF_FILES,
        """
        set_a_project
        """,
    ),
    *attempts(
        (CALLS, NAMESPACES),
        HIDDEN,
        """
        connect_by_packets_to_a_daemon connect_by_a_link connect_by_the_root_of_proc
        connect_beside_a_path connect_a_pair_again change_a_mode_by_a_descriptor
        change_a_mode_with_flags change_an_owner_of_a_link change_times_of_a_folder
        change_rights_by_a_list remove_an_attribute set_an_attribute_by_structure
        remove_an_attribute_by_structure
        """,
    ),
    *attempts(
        (CALLS, NAMESPACES),
        NAMED,
        """
        find_a_semaphore find_a_queue look_at_a_segment remove_a_segment list_segments
        remove_a_message_queue
        """,
    ),
    *attempts(
        (SIGNALS,),
        DENIED,
        """
        signal_a_sibling signal_the_parent signal_the_group_of_the_host
        signal_a_thread_by_its_number queue_a_signal_for_a_thread signal_from_a_child
        """,
    ),
    *attempts(
        (SIGNALS,),
        NAMED,
        """
        kill_by_a_socket kill_by_an_owner_of_a_kind kill_by_an_owning_group
        """,
    ),
    *attempts(
        (CALLS, NAMESPACES, PRIVILEGES),
        DENIED,
        """
        take_a_capability raise_an_ambient_capability join_a_group fill_pipes_of_the_user
        send_raw_ipv6 pretend_to_be_another_process come_first be_nice_to_itself
        """,
    ),
    *attempts(
        (CALLS, NAMESPACES, PRIVILEGES),
        FAMILY,
        """
        see_frames_without_headers
        """,
    ),
    *attempts(
        (CALLS, NAMESPACES, PRIVILEGES),
        FLAGS,
        """
        keep_capabilities change_secure_bits
        """,
    ),
    *attempts(
        (CALLS, NAMESPACES, PRIVILEGES),
        NAMED,
        """
        become_root make_a_namespace_of_network make_a_namespace_of_processes
        make_a_namespace_of_ipc make_a_namespace_of_names make_a_namespace_of_groups
        make_a_namespace_of_times
        """,
    ),
    *attempts(
        (CALLS, NAMESPACES, PRIVILEGES),
        OTHERS,
        """
        schedule_another_by_structure schedule_parameters_of_another slow_the_host_down
        slow_a_group_down
        """,
    ),
    *attempts(
        (CALLS, NAMESPACES, PRIVILEGES),
        TERMINAL,
        """
        switch_an_interface_off
        """,
    ),
    *attempts(
        (CALLS, NAMESPACES, PRIVILEGES),
        UNKNOWN,
        """
        account_for_processes stop_swapping watch_a_file_system mount_a_file_system_that_is_set_up
        look_at_a_file_system_that_is_mounted name_the_host name_the_domain measure_another
        """,
    ),
    *attempts(
        (CALLS, SIGNALS, NAMESPACES),
        KIND,
        """
        send_from_a_pair_with_an_abstract_name
        """,
    ),
    *attempts(
        (CALLS, SIGNALS, NAMESPACES),
        TERMINAL,
        """
        kill_by_a_request
        """,
    ),
    *attempts(
        (CALLS, NETWORK, NAMESPACES),
        DENIED,
        """
        connect_by_ipv6
        """,
    ),
    *attempts(
        (FILES, PRIVILEGES),
        DENIED,
        """
        read_messages_of_the_kernel
        """,
    ),
    *attempts(
        (LIMITS,),
        DENIED,
        """
        lift_the_limit_of_descriptors
        """,
    ),
    *attempts(
        OTHER,
        HIDDEN,
        """
        write_to_own_groups open_kmsg make_a_control_group look_into_auxv_of_the_host
        look_into_cwd_of_the_host look_into_environ_of_the_host look_into_exe_of_the_host
        look_into_fd_0_of_the_host look_into_fdinfo_0_of_the_host look_into_io_of_the_host
        look_into_map_files_of_the_host look_into_maps_of_the_host look_into_mem_of_the_host
        look_into_ns_mnt_of_the_host look_into_ns_net_of_the_host look_into_ns_user_of_the_host
        look_into_pagemap_of_the_host look_into_root_of_the_host look_into_smaps_of_the_host
        look_into_stack_of_the_host look_into_syscall_of_the_host look_into_environ_of_a_sibling
        look_into_mem_of_a_sibling look_into_maps_of_a_sibling look_into_fd_0_of_a_sibling
        look_into_root_of_a_sibling look_into_cwd_of_a_sibling write_to_mem_of_the_host
        look_into_a_thread_of_the_host look_into_the_parent
        """,
    ),
    *attempts(
        OTHER,
        UNKNOWN,
        """
        read_memory_of_another_by_vector take_a_descriptor_of_another take_a_descriptor_of_a_sibling
        find_locks_of_another find_pages_of_another trace_the_host trace_a_sibling
        join_namespaces_by_a_process
        """,
    ),
    *attempts(
        EVERYTHING,
        DENIED,
        """
        gain_by_a_program
        """,
    ),
    *attempts(
        EVERYTHING,
        HIDDEN,
        """
        find_a_secret_in_variables find_a_secret_in_variables_of_libc find_a_secret_of_a_child
        find_a_secret_in_its_memory
        """,
    ),
    *attempts(
        NOTHING,
        DENIED,
        """
        ping ping_by_ipv6
        """,
    ),
    *attempts(
        NOTHING,
        FLAGS,
        """
        flush_for_disks share_a_core_with_another
        """,
    ),
    *attempts(
        NOTHING,
        HIDDEN,
        """
        keep_a_file_of_the_host find_a_secret_in_its_start find_a_secret_in_its_arguments
        list_message_queues read_where_the_host_works read_memory_of_the_kernel write_to_sysrq
        write_to_modprobe write_to_binary_formats write_to_tracing_of_others
        write_to_limits_of_namespaces write_to_events_of_devices write_to_processors open_mem
        open_port open_vda open_sda open_tty make_others_be_killed_first
        """,
    ),
    *attempts(
        NOTHING,
        UNKNOWN,
        """
        load_a_module load_a_module_by_descriptor unload_a_module load_another_kernel
        load_another_kernel_by_descriptor join_a_session_of_keys use_ports_of_the_machine
        use_all_ports_of_the_machine make_a_segment_of_16_bits call_number_400 call_number_470
        call_number_600 call_number_2147483647 call_number_minus_2 call_getpid_by_x32
        call_open_by_x32 call_ptrace_by_x32 call_process_vm_readv_by_x32
        """,
    ),
]

JUDGED_ELSEWHERE = frozenset(
    {"change_attributes", "list_processes", "listen_on_an_abstract_name", "listen_by_an_abstract_name"}
)
"""Attempts of `prisoner` whose results mean something else in other places; see test_sandbox.py."""
