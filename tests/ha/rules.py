"""The rules of VRRP that a pair is held to, and the tests that hold it to them. Data alone; `test_rules.py` checks it.

A rule is one sentence of ours, with the section it comes from where a standard says it; the rest are decisions. Tests
stand here by their names, which are sentences too.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    section: str  # of a standard, or empty
    says: str
    tests: tuple[str, ...]


def _rules(*rows: tuple[str, ...]) -> tuple[Rule, ...]:
    """Rows of section, sentence and tests."""
    return tuple(Rule(section, says, tuple(tests)) for section, says, *tests in rows)


PACKETS = _rules(
    (
        "RFC 9568 §5.1.1",
        "Over IPv4: protocol 112, TTL 255, to 224.0.0.18, from the interface's primary address.",
        "test_an_ipv4_advertisement_is_on_the_cable_as_the_rfc_has_it",
    ),
    (
        "RFC 9568 §5.1.2",
        "Over IPv6: next header 112, hop limit 255, to ff02::12, from the link-local address.",
        "test_an_ipv6_advertisement_is_on_the_cable_as_the_rfc_has_it",
    ),
    (
        "RFC 9568 §5.2",
        "The message is version and type, VRID, priority, count, interval of 12 bits, checksum, addresses.",
        "test_scapy_builds_the_same_version_3_over_ipv4",
        "test_scapy_builds_the_same_version_3_over_ipv6",
        "test_scapy_and_our_own_builder_agree_on_every_byte",
    ),
    (
        "RFC 9568 §5.2.6",
        "Reserved bits are ignored.",
        "test_w2_the_reserved_bits_are_ignored",
    ),
    (
        "RFC 9568 §5.2.8",
        "Version 3 over IPv4: the checksum is of the message alone; one with a pseudo-header is answered in kind.",
        "test_w3_either_form_is_accepted_and_named",
        "test_the_checksum_over_the_message_alone_adds_up_to_all_ones",
        "test_w3_the_checksum_form_that_was_heard_last_is_sent",
        "test_keepalived_takes_only_the_checksum_with_the_pseudo_header",
    ),
    (
        "RFC 9568 §5.2.8",
        "Over IPv6 the checksum covers the pseudo-header.",
        "test_w3_over_ipv6_the_pseudo_header_is_always_covered",
    ),
    (
        "RFC 3768 §5.3",
        "Version 2: seconds, an authentication type, eight bytes of authentication data at the end.",
        "test_scapy_builds_the_same_version_2",
        "test_w7_w2_w4_what_is_built_is_what_keepalived_was_seen_to_send",
    ),
    (
        "",
        "A message is measured by the IP length, never by the frame's.",
        "test_w5_a_frame_that_was_padded_is_read_by_its_ip_length",
        "test_padding_of_a_short_frame_is_no_part_of_the_packet",
    ),
    (
        "RFC 9568 §5.2.4",
        "Priorities, VRIDs and intervals that the wire cannot say are not built.",
        "test_w6_what_cannot_be_said_on_the_wire_is_not_built",
    ),
    (
        "",
        "What was captured of another implementation is understood, and built byte for byte.",
        "test_w7_what_keepalived_sends_is_understood",
        "test_what_is_built_is_what_was_captured",
    ),
    (
        "",
        "An advertisement's bytes are built once per priority and checksum form, outside the interval.",
        "test_w8_an_advertisement_is_built_once_and_sent_often",
    ),
)

RECEIVING = _rules(
    (
        "RFC 9568 §7.1",
        "Checks come in order; the first that fails names the reason.",
        "test_the_first_check_that_fails_names_the_reason",
    ),
    (
        "",
        "No packet comes from 0/8, 127/8, multicast, broadcast or ourselves.",
        "test_check_1_no_such_address_sends",
        "test_check_1_no_such_ipv6_address_sends",
        "test_check_1_our_own_advertisement_is_a_loop",
        "test_check_1_fragments_and_headers_that_lie_are_malformed",
    ),
    (
        "RFC 9568 §5.1.1.3",
        "TTL and hop limit are 255; routed unicast peers may have less, if the file says so.",
        "test_check_2_w1_the_ttl_is_255",
        "test_u1_a_routed_unicast_peer_may_have_a_lower_ttl_down_to_the_least_allowed",
    ),
    (
        "RFC 9568 §7.1",
        "The length is what the count of addresses says, and there is one at least.",
        "test_check_3_w5_the_message_has_exactly_the_length_that_its_count_says",
        "test_check_3_a_count_of_zero_is_no_advertisement",
    ),
    (
        "RFC 9568 §7.1",
        "Version and type are those configured.",
        "test_check_4_version_and_type_are_those_configured",
        "test_check_4_version_2_has_no_ipv6",
    ),
    (
        "RFC 9568 §7.1",
        "A wrong checksum is dropped.",
        "test_check_5_no_bit_can_be_flipped_unnoticed",
    ),
    (
        "RFC 9568 §7.1",
        "Another VRID is another router's.",
        "test_check_6_another_virtual_router_is_not_ours",
    ),
    (
        "",
        "Multicast routers take no unicast, unicast ones no multicast.",
        "test_check_7_u2_the_destination_is_the_group_or_in_unicast_our_address",
        "test_unicast_goes_to_each_node_and_hears_no_group",
    ),
    (
        "RFC 3768 §7.1",
        "Version 2: authentication and interval are ours, or the packet is dropped.",
        "test_check_8_w4_version_2_has_our_password_and_our_interval",
        "test_check_8_version_2_without_password_takes_none",
    ),
    (
        "",
        "An interval of zero is not believed.",
        "test_check_8_an_interval_of_zero_is_not_believed",
    ),
    (
        "",
        "Who is no node deposes nobody and keeps nobody asleep.",
        "test_check_9_a4_who_is_no_node_is_a_stranger",
        "test_property_8_forged_advertisements_of_strangers_change_no_state",
        "test_forged_advertisements_move_nothing_and_fill_no_log",
    ),
    (
        "RFC 9568 §7.1",
        "Overlapping address lists are obeyed and told, disjoint ones dropped.",
        "test_check_10_overlapping_lists_are_obeyed_and_reported_disjoint_ones_dropped",
        "test_another_list_of_addresses_is_obeyed_and_told",
    ),
    (
        "RFC 9568 §7.1",
        "A packet that fails a check changes nothing: no timer, no state, no learned interval.",
        "test_property_6_a1_a_dropped_packet_leaves_the_machine_equal",
        "test_a1_t4_what_is_received_does_not_move_our_advertisements",
    ),
    (
        "",
        "Each drop counts; a line a minute of each reason and source, which says how many were left out.",
        "test_one_line_a_minute_of_each_subject_and_the_next_says_how_many_were_left_out",
        "test_a2_drops_are_counted_each_and_told_by_reason_and_source",
        "test_a_stranger_is_dropped_counted_and_told",
    ),
    (
        "",
        "Rubbish dies in the kernel, counted; what passes is read in batches of 64.",
        "test_another_ttl_version_or_vrid_dies_in_the_kernel_and_is_counted",
        "test_a_batch_has_at_most_64_packets_in_their_order",
    ),
    (
        "",
        "Parsing never raises.",
        "test_property_5_any_bytes_parse_to_a_value_or_one_reason",
        "test_junk_never_raises",
    ),
)

TIMERS = _rules(
    (
        "RFC 9568 §6.1",
        "Skew is (256 - priority) / 256 of the Active's interval; Active_Down three intervals and the skew.",
        "test_t1_skew_time_and_active_down",
        "test_t1_a_backup_takes_over_when_the_active_falls_silent",
    ),
    (
        "RFC 3768 §6.1",
        "Version 2 skews by parts of a second, whatever the interval.",
        "test_t1_version_2_skews_by_parts_of_a_second_whatever_the_interval",
    ),
    (
        "RFC 9568 §6.4.2",
        "A Backup takes the Active's interval from its advertisements, up to ten times its own.",
        "test_t3_a_version_3_backup_takes_the_interval_of_the_active",
        "test_t3_an_interval_beyond_ten_times_ours_is_not_learned",
    ),
    (
        "",
        "Advertisements are due on a grid; a missed slot is sent once, at once.",
        "test_t4_advertisements_are_due_on_the_grid_that_began_with_the_claim",
        "test_t4_a_missed_slot_is_sent_once_and_at_once",
    ),
    (
        "",
        "An advertisement counts from its arrival; a suspend is noticed by another clock.",
        "test_t5_an_advertisement_counts_from_its_arrival",
        "test_the_arrival_is_when_the_packet_came_not_when_it_was_read",
        "test_l2_t5_a_suspended_machine_trusts_no_timer",
    ),
    (
        "",
        "An advertisement that waits in the socket cancels a claim that is due.",
        "test_t6_an_advertisement_read_before_the_timer_is_told_cancels_the_claim",
    ),
)

STATES = _rules(
    (
        "RFC 9568 §6.4",
        "Every state answers every event, by one table.",
        "test_s1_every_state_has_a_rule_for_every_event_and_every_rule_a_handler",
        "test_every_state_answers_every_event",
    ),
    (
        "RFC 9568 §6.4.1",
        "Who becomes Active adds the address, announces it, and then advertises.",
        "test_s2_the_address_comes_first_then_who_has_it_then_the_advertisement",
    ),
    (
        "RFC 9568 §6.4.3",
        "An Active answers priority 0 at once, gives way to a better one, answers a lower one within measure.",
        "test_s3_an_active_answers_priority_0_at_once",
        "test_s3_a_lower_one_is_answered_four_times_an_interval_and_announced_once_a_second",
        "test_s3_b1_b2_an_active_gives_way_to_a_higher_priority_and_says_nothing_before_the_address_is_off",
    ),
    (
        "RFC 9568 §6.4.3",
        "Of equal priorities the higher address wins, compared as a number.",
        "test_s3_s9_b1_of_equal_priorities_the_higher_address_stays",
        "test_s3_ipv6_addresses_compare_as_numbers",
    ),
    (
        "RFC 9568 §6.4.2",
        "A Backup that hears priority 0 claims after its skew; a lower one it discards with preempt, obeys without.",
        "test_s4_priority_0_lets_a_backup_claim_after_its_skew_time",
        "test_s4_a_lower_active_is_discarded_with_preempt_and_obeyed_without",
    ),
    (
        "",
        "Without preempt the holder keeps the address, but for one that is healthier.",
        "test_s5_without_preempt_the_holder_keeps_the_address",
        "test_s5_h5_on_evidence_the_healthier_takes_over_even_with_preempt_off",
    ),
    (
        "",
        "With the link up, to preempt is to ask; a handover never makes two Actives.",
        "test_s6_with_the_link_up_preempting_is_asking",
        "test_property_9_a_handover_never_makes_two_holders",
        "test_a_handover_costs_no_request",
    ),
    (
        "",
        "`preempt_delay` counts from when the node can serve.",
        "test_s7_preempt_delay_counts_from_when_the_node_can_serve",
    ),
    (
        "RFC 9568 §6.4.1",
        "An owner begins as Active and yields to nobody; one that cannot serve is in Initialize.",
        "test_s8_s1_an_owner_starts_active_and_yields_to_nobody",
        "test_s8_an_owner_that_cannot_serve_is_in_initialize_and_says_why",
        "test_s9_the_second_owner_stands_back",
    ),
    (
        "RFC 9568 §6.4.3",
        "A stop removes the address and says priority 0.",
        "test_s10_a_stop_removes_the_address_and_says_priority_0_three_times",
        "test_a_polite_stop_costs_no_request_and_power_back_moves_nothing",
    ),
    (
        "",
        "Lost carrier ends being Active; back, it listens for a whole Active_Down first.",
        "test_s11_a_lost_carrier_ends_being_active_without_an_advertisement",
        "test_s11_a_carrier_that_is_back_has_to_last_before_we_listen_for_a_whole_active_down",
        "test_an_interface_that_vanishes_is_found_again_by_its_name",
    ),
    (
        "",
        "An address that somebody else removed is put back once; one that is there while Backup goes.",
        "test_s12_an_address_that_somebody_removed_is_put_back_once",
        "test_s12_s13_an_address_that_is_there_while_backup_is_removed",
    ),
    (
        "RFC 9568 §6.4.2",
        "A Backup answers nothing for the address.",
        "test_a_probe_is_answered_by_whoever_has_the_address_and_by_nobody_else",
    ),
)

ADDRESSES = _rules(
    (
        "",
        "The kernel removes an address that nobody refreshes.",
        "test_ar1_addresses_are_refreshed_four_times_per_lifetime",
        "test_the_kernel_removes_an_address_that_nobody_refreshes",
        "test_when_all_of_a_node_is_killed_at_once_the_kernel_cleans_up",
    ),
    (
        "",
        "Settings of the interface are made and put back.",
        "test_settings_are_put_back_at_the_end",
        "test_settings_of_a_crashed_run_are_put_back_by_the_next",
    ),
    (
        "RFC 9568 §8.1.2",
        "A gratuitous ARP is a broadcast request whose sender and target are the address.",
        "test_a_gratuitous_arp_is_a_broadcast_request_for_the_address_by_the_address",
    ),
    (
        "RFC 9568 §8.2.2",
        "An unsolicited NA goes to all nodes, overrides, is not solicited, and says router only of a router.",
        "test_an_unsolicited_advertisement_goes_to_all_nodes_and_overrides",
    ),
    (
        "",
        "A claim is announced six times within a second, then every half minute; a claim by others is answered.",
        "test_ar4_a_claim_is_announced_six_times_within_a_second_then_every_half_minute",
        "test_ar4_ar5_a_claim_by_a_foreign_mac_is_answered_ten_times_a_second_and_never_given_in_to",
    ),
    (
        "",
        "A MAC that is no node's is told as a conflict, with the MAC.",
        "test_ar4_ar5_a_claim_by_a_foreign_mac_is_answered_ten_times_a_second_and_never_given_in_to",
        "test_who_claims_the_address_at_another_mac_is_seen_with_its_name",
    ),
    (
        "",
        "A start removes what an earlier life left, and listens for a whole Active_Down.",
        "test_ar6_nothing_is_claimed_before_a_whole_active_down_of_listening",
        "test_leftovers_are_removed_from_any_interface_with_any_prefix",
    ),
    (
        "",
        "A claim needs no lookup: orders to the kernel are prepared.",
        "test_taking_and_leaving_an_address_costs_next_to_nothing",
    ),
    (
        "RFC 9568 §7.3",
        "With a virtual MAC everything comes from it.",
        "test_from_a_virtual_mac_everything_comes_from_it",
        "test_a_virtual_mac_is_that_of_the_vrid_and_is_made_anew_over_a_leftover",
    ),
)

SEVERAL_ROUTERS = _rules(
    (
        "RFC 9568 §5.2.3",
        "A virtual router is interface, VRID and family; two of one key are refused.",
        "test_g1_members_have_different_keys",
        "test_g1_virtual_routers_of_one_key_are_refused",
    ),
    (
        "",
        "A group moves together: all deletions, then all additions.",
        "test_g2_a_group_claims_only_when_each_member_may",
        "test_g2_additions_come_before_all_but_deletions",
        "test_g2_one_member_that_leaves_takes_all_deletions_first",
    ),
    (
        "",
        "Both families of an entry move as one; crossed preferences make both nodes active.",
        "test_g3_both_families_move_as_one",
        "test_two_routers_with_crossed_preferences_make_both_nodes_active",
    ),
)

SENDING = _rules(
    (
        "RFC 9568 §6.4.3",
        "An Active advertises once an interval, whatever else happens, and a Backup never.",
        "test_x1_an_active_advertises_once_an_interval_and_a_backup_never",
    ),
    (
        "",
        "Three intervals without sending move the address to a peer that can serve.",
        "test_x2_three_intervals_without_sending_move_the_address_to_a_peer_that_can_serve",
        "test_x2_without_such_a_peer_the_node_stays_and_is_loud",
        "test_a_unicast_node_whose_process_is_down_is_no_error",
    ),
)

HEALTH = _rules(
    (
        "RFC 9568 §6.1",
        "The priority loses the weights of what is bad, stays in 1 to 254, and says why; an owner's stays.",
        "test_h1_the_priority_loses_the_weights_of_what_is_bad_and_says_why",
        "test_h1_the_priority_stays_between_1_and_254",
        "test_s8_an_owner_is_never_degraded_but_may_be_unfit",
    ),
    (
        "",
        "A death is known by a mutex, before the memory of the dead is free.",
        "test_the_news_of_a_death_does_not_wait_for_a_large_heap_to_be_freed",
        "test_its_death_is_known_before_its_memory_is_free_and_a_good_end_is_none",
    ),
    (
        "",
        "The last worker makes a node resign; one of several costs its weight if the peer is whole.",
        "test_h3_only_the_last_worker_makes_unfit",
        "test_one_of_two_workers_lost_costs_its_weight_if_the_peer_is_whole",
        "test_a_node_whose_last_worker_is_killed_lets_go_at_once",
    ),
    (
        "",
        "Five beats missed are a hung worker.",
        "test_a_worker_whose_loop_stands_is_hung_and_comes_back",
        "test_a_hung_worker_is_as_good_as_none",
    ),
    (
        "",
        "Never dual loss: a node yields for service causes only to a better one.",
        "test_h5_never_dual_loss_with_nobody_better_the_holder_keeps_the_address",
        "test_h5_both_ill_nothing_moves",
        "test_h5_who_has_seen_its_own_origins_good_since_then_waits_for_nothing",
        "test_a_node_whose_origin_is_gone_yields_to_one_that_has_it",
    ),
    (
        "",
        "Bad at once for deaths, good after a second; who loses the address again and again waits longer.",
        "test_h6_a_recovery_counts_after_a_second_of_stability",
        "test_h6_who_lost_the_address_twice_in_a_minute_waits_before_wanting_it_back",
        "test_h6_the_wait_doubles_up_to_a_minute",
    ),
    (
        "",
        "Who has never served claims nothing, and boot never takes the address from a working peer.",
        "test_h7_a_node_that_never_could_serve_claims_nothing",
        "test_h7_boot_never_takes_the_address_from_a_working_peer",
    ),
    (
        "",
        "Scripts, files and interfaces have weights; a script over its time dies with all it started.",
        "test_a_program_over_its_time_dies_with_what_it_started",
        "test_tracked_things_are_looked_at",
        "test_a_tracked_thing_counts_after_as_many_looks_as_were_asked_for",
    ),
)

DEATHS = _rules(
    (
        "",
        "Whoever dies holding the address has somebody who cleans up.",
        "test_when_ha_is_killed_the_supervisor_cleans_up_and_starts_it_as_backup",
        "test_when_the_supervisor_is_killed_ha_lets_go_and_ends",
        "test_a_frozen_ha_loses_its_address_to_the_kernel_and_its_thaw_moves_nothing",
        "test_release_removes_what_the_state_file_names_and_nothing_else",
    ),
    (
        "",
        "The links of a dead `ha` end with it, so its priority 0 is believed.",
        "test_its_links_are_shared_as_long_as_its_last_will_names_them_and_end_with_it",
        "test_backup_priority_0_is_believed_when_the_link_ends_a_moment_later",
    ),
)

LINK = _rules(
    (
        "",
        "Advertisements that contradict the link's word are forged or late.",
        "test_active_a_better_advertisement_of_who_is_backup_by_its_word_is_forged_or_late",
        "test_backup_priority_0_of_who_is_active_by_its_word_is_forged",
    ),
    (
        "",
        "Filtered advertisements move nothing while the link lives.",
        "test_backup_silent_but_active_by_its_word_stays_and_is_loud",
        "test_filtered_advertisements_move_nothing_while_the_link_lives",
    ),
    (
        "",
        "Both sides prove the secret; nothing old or changed is taken.",
        "test_an_old_conversation_replayed_proves_nothing",
        "test_a_frame_repeated_left_out_or_moved_ends_the_link",
    ),
    (
        "",
        "A word counts for three intervals, and of the present incarnation.",
        "test_k2_a_word_counts_for_three_intervals",
        "test_k2_a_word_of_an_earlier_incarnation_does_not_count",
    ),
    (
        "",
        "The silence of the link alone makes no owner.",
        "test_k3_backup_heard_gone_stays_and_is_loud",
        "test_k3_active_with_nothing_heard_stays",
    ),
    (
        "",
        "With the link on another path the clients' network is asked before anything moves.",
        "test_k4_with_the_link_on_another_path_the_network_of_the_clients_is_asked",
        "test_a_cut_cable_is_told_over_the_other_path_and_its_return_costs_no_request",
    ),
    (
        "",
        "Replayed advertisements of an ended life keep nobody asleep.",
        "test_k5_replayed_advertisements_of_an_ended_life_do_not_keep_a_backup_asleep",
    ),
)

SPLIT_BRAIN = _rules(
    (
        "RFC 9568 §6.4.3",
        "Of two Actives the better stays; the loser's address is off before it says anything; the winner announces.",
        "test_b1_of_two_actives_on_the_link_the_better_stays",
        "test_b2_the_winner_announces_when_the_loser_has_let_go_and_again",
    ),
    (
        "",
        "A split is seen by advertisements, words and ARP; its healing costs one move at most.",
        "test_b3_a_split_is_seen_by_advertisements_words_and_arp",
        "test_b4_a_partition_that_heals_costs_one_move_and_no_oscillation",
        "test_a_partition_ends_with_one_active",
    ),
)

RELOAD_FREEZE_SCHEDULING = _rules(
    (
        "",
        "A reload moves nothing that stays.",
        "test_a_reload_moves_nothing_that_stays_and_takes_over_what_changes",
        "test_reloads_move_nothing_and_take_new_values_over",
    ),
    (
        "",
        "Who wakes late trusts no old timer.",
        "test_l2_a_backup_woken_late_listens_for_a_whole_active_down",
        "test_l2_an_active_woken_very_late_asks_the_network_before_it_says_anything",
    ),
    (
        "",
        "Real-time rights are taken where they are given; each denial is a sentence, a runaway loop loses them.",
        "test_each_denial_is_a_sentence_that_names_the_right",
        "test_a_loop_that_never_pauses_loses_its_priority_and_goes_on",
    ),
    (
        "",
        "Garbage is collected between what is due, and what was there at the start never.",
        "test_l4_garbage_is_collected_by_hand",
        "test_l4_nothing_is_collected_when_something_is_due",
    ),
    (
        "",
        "The longest gap between two advertisements is exported.",
        "test_the_longest_gap_between_advertisements_is_kept",
        "test_metrics_and_the_configuration_digest_are_shown",
    ),
)

RULES = (
    *PACKETS,
    *RECEIVING,
    *TIMERS,
    *STATES,
    *ADDRESSES,
    *SEVERAL_ROUTERS,
    *SENDING,
    *HEALTH,
    *DEATHS,
    *LINK,
    *SPLIT_BRAIN,
    *RELOAD_FREEZE_SCHEDULING,
)
